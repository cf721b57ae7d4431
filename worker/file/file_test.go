package file

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
)

// newStore is a store on a tmpfs of its own; without the right to mount, on the
// one for shared memory.
func newStore(t *testing.T) *Store {
	t.Helper()
	base := t.TempDir()
	if os.Geteuid() != 0 {
		var err error
		if base, err = os.MkdirTemp("/dev/shm", "shoal-test-"); err != nil {
			t.Skip("neither root nor shared memory")
		}
		t.Cleanup(func() { os.RemoveAll(base) })
	}
	s, err := New(filepath.Join(base, "files", "n1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", s.dir)
		}
	})
	return s
}

func tasksOf(t *testing.T, s *Store) []string {
	t.Helper()
	ids, err := s.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestFilesHaveContentOwnerAndMode(t *testing.T) {
	s := newStore(t)
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 1234, 4321
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	paths, err := s.Put("t1", []File{{Data: []byte("a"), UID: uid, GID: gid, Mode: 0o444}, {Data: []byte("bb"), UID: uid, GID: gid, Mode: 0o666}, {UID: uid, GID: gid}})
	if err != nil || len(paths) != 3 {
		t.Fatalf("%v, %v", paths, err)
	}
	for i, want := range []struct {
		size int64
		mode os.FileMode
	}{{1, 0o444}, {2, 0o666}, {0, 0}} {
		info, err := os.Stat(paths[i])
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Size() != want.size || info.Mode().Perm() != want.mode || int(owner.Uid) != uid || int(owner.Gid) != gid {
			t.Errorf("file %d: %d bytes, %v, %d:%d", i, info.Size(), info.Mode(), owner.Uid, owner.Gid)
		}
	}
	for _, dir := range []string{s.dir, filepath.Dir(paths[0])} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v: others can look into it", dir, info.Mode(), err)
		}
	}
	if memory, err := inMemory(paths[0]); err != nil || !memory {
		t.Errorf("the file is on a disk: %v", err)
	}
}

func TestFilesAreReplacedAndRemoved(t *testing.T) {
	s := newStore(t)
	if ids := tasksOf(t, s); len(ids) != 0 {
		t.Errorf("tasks %v before any", ids)
	}
	if err := s.Remove("t1"); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	put := func(id string, texts ...string) []string {
		var files []File
		for _, text := range texts {
			files = append(files, File{Data: []byte(text), UID: os.Geteuid(), GID: os.Getegid(), Mode: 0o400})
		}
		paths, err := s.Put(id, files)
		if err != nil {
			t.Fatal(err)
		}
		return paths
	}
	put("t1", "a", "b")
	paths := put("t1", "c")
	put("t2", "d")
	if content, err := os.ReadFile(paths[0]); string(content) != "c" {
		t.Errorf("%q, %v", content, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(paths[0])); len(entries) != 1 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	if err := s.Remove("t1"); err != nil {
		t.Error(err)
	}
	if ids := tasksOf(t, s); !slices.Equal(ids, []string{"t2"}) {
		t.Errorf("tasks %v", ids)
	}
}

// A daemon that comes back finds what there was.
func TestAnotherStoreGoesOn(t *testing.T) {
	s := newStore(t)
	file := []File{{Data: []byte("a"), UID: os.Geteuid(), GID: os.Getegid(), Mode: 0o400}}
	first, err := s.Put("t1", file)
	if err != nil {
		t.Fatal(err)
	}
	next, err := New(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Put("t2", file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first[0]); err != nil {
		t.Errorf("the file of the first task: %v", err)
	}
	if ids := tasksOf(t, next); !slices.Equal(ids, []string{"t1", "t2"}) {
		t.Errorf("tasks %v", ids)
	}
}

func TestWhatIsNoTaskIsRefused(t *testing.T) {
	s := newStore(t)
	for _, id := range []string{"", ".", "..", "../t1", "a/b", "/etc"} {
		if _, err := s.Put(id, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("put %q: %v", id, err)
		}
		if err := s.Remove(id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("remove %q: %v", id, err)
		}
	}
	if _, err := New("files"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative directory: %v", err)
	}
}

func TestNothingIsLeftOfWhatCouldNotBeMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	s := newStore(t)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put("t1", []File{{Data: []byte("a")}, {Data: make([]byte, 1<<20)}})
	if !errors.Is(err, syscall.ENOSPC) || len(tasksOf(t, s)) != 0 {
		t.Errorf("%v, left: %v", err, tasksOf(t, s))
	}
}

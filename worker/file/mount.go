package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// prepare makes the directory, on a tmpfs of its own if that can be had: what
// fills it up hurts nobody else, and what is in it is not swapped out.
func (s *Store) prepare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("directory for the files of tasks: %w", err)
	}
	mounted, err := isMount(s.dir)
	if err != nil {
		return err
	}
	if !mounted {
		if err := s.mount(); err != nil {
			return err
		}
	}
	if inMemory, err := inMemory(s.dir); err != nil || !inMemory {
		return errors.Join(err, fmt.Errorf("%s is on a disk, secrets are kept in memory only: %w", s.dir, errdefs.ErrFailedPrecondition))
	}
	if err := os.Chmod(s.dir, 0o700); err != nil { //nolint:gosec // a directory needs the x
		return fmt.Errorf("directory for the files of tasks: %w", err)
	}
	s.ready = true
	return nil
}

// mount puts a tmpfs on the directory. Who may not mount uses the one that the
// directory may be on.
func (s *Store) mount() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := unix.Mount("tmpfs", s.dir, "tmpfs", flags, "mode=0700,noswap")
	if errors.Is(err, unix.EINVAL) { // kernels before 6.4 cannot promise that
		err = unix.Mount("tmpfs", s.dir, "tmpfs", flags, "mode=0700")
	}
	if err == nil {
		return nil
	}
	if inMemory, statErr := inMemory(s.dir); statErr == nil && inMemory {
		return nil
	}
	return fmt.Errorf("mount a tmpfs for the files of tasks on %s (the daemon must be root): %w", s.dir, err)
}

// Close removes all files, and the tmpfs.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = false
	ids, err := s.Tasks()
	for _, id := range ids {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, id)))
	}
	mounted, statErr := isMount(s.dir)
	switch {
	case errors.Is(statErr, os.ErrNotExist):
		return err
	case statErr != nil:
		return errors.Join(err, statErr)
	}
	if mounted {
		// A container that still runs keeps its own binds.
		err = errors.Join(err, os.NewSyscallError("umount "+s.dir, unix.Unmount(s.dir, unix.MNT_DETACH)))
	}
	return errors.Join(err, os.Remove(s.dir))
}

// isMount reports whether something is mounted on dir.
func isMount(dir string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Stat(dir, &here); err != nil {
		return false, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	parent := filepath.Dir(dir)
	if err := unix.Stat(parent, &above); err != nil {
		return false, &os.PathError{Op: "stat", Path: parent, Err: err}
	}
	return here.Dev != above.Dev, nil
}

// inMemory reports whether dir is on a file system that is on no disk.
func inMemory(dir string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC, nil
}

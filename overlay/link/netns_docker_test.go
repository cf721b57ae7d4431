//go:build docker

package link

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// space is a network namespace of the test, with its own view of /sys.
type space struct {
	net, mnt *os.File
	self     string // for tools that take a path
}

// newSpace makes one; nothing of this machine's own is touched.
func newSpace(t testing.TB) *space {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := &space{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
		var err error
		if s.net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		s.mnt, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.self = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.net.Fd())
	t.Cleanup(func() {
		s.net.Close()
		s.mnt.Close()
	})
	return s
}

// onThread runs do on a thread that ends with it.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- do()
	}()
	return <-done
}

// in runs do inside the namespace.
func (s *space) in(do func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		for _, ns := range []struct {
			file *os.File
			kind int
		}{{s.net, unix.CLONE_NEWNET}, {s.mnt, unix.CLONE_NEWNS}} {
			if err := unix.Setns(int(ns.file.Fd()), ns.kind); err != nil {
				return fmt.Errorf("enter namespace: %w", err)
			}
		}
		return do()
	})
}

// must runs do inside the namespace and ends the test on an error.
func (s *space) must(t testing.TB, do func() error) {
	t.Helper()
	if err := s.in(do); err != nil {
		t.Fatal(err)
	}
}

// links returns a Links of a new life in this namespace.
func (s *space) links(t testing.TB) *Links {
	t.Helper()
	var l *Links
	s.must(t, func() (err error) {
		l, err = New(slog.New(slog.DiscardHandler))
		return err
	})
	return l
}

func (s *space) apply(t testing.TB, l *Links, w Want) Result {
	t.Helper()
	var r Result
	s.must(t, func() (err error) {
		r, err = l.Apply(w)
		return err
	})
	return r
}

func (s *space) audit(t testing.TB, l *Links) Result {
	t.Helper()
	var r Result
	s.must(t, func() (err error) {
		r, err = l.Audit()
		return err
	})
	return r
}

// Package file keeps the files that tasks are given, secrets and configs, where
// no disk is: in a tmpfs that only root may look into. The engine binds them
// into containers, one by one.
//
// What is kept survives the daemon, as the containers do; nothing survives the
// host.
package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"
)

// File is a file of a task.
type File struct {
	Data     []byte // secret
	UID, GID int
	Mode     os.FileMode // permissions
}

// Store keeps the files of the tasks of a node, each below the task's id. It is
// safe for concurrent use for different tasks.
type Store struct {
	dir string

	mu    sync.Mutex
	ready bool
}

// New returns a store in dir, which is made, and made a tmpfs, by the first Put.
func New(dir string) (*Store, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("directory %q for the files of tasks: its path is not absolute: %w", dir, errdefs.ErrInvalidArgument)
	}
	return &Store{dir: dir}, nil
}

// Put replaces the files of a task and returns their paths, in order.
func (s *Store) Put(taskID string, files []File) ([]string, error) {
	dir, err := s.of(taskID)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	paths, err := write(dir, files)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return paths, nil
}

func write(dir string, files []File) (paths []string, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for i, f := range files {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := writeOne(path, f); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// writeOne makes a file that nobody may read until it is complete.
func writeOne(path string, f File) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	// Last the permissions: a change of the owner may take some away.
	_, writeErr := out.Write(f.Data)
	return errors.Join(writeErr, out.Chown(f.UID, f.GID), out.Chmod(f.Mode.Perm()), out.Close())
}

// Remove removes the files of a task, if there are any.
func (s *Store) Remove(taskID string) error {
	dir, err := s.of(taskID)
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Tasks returns the ids of the tasks that have files.
func (s *Store) Tasks() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, nil
}

// of is the directory of a task.
func (s *Store) of(taskID string) (string, error) {
	if taskID == "." || taskID != filepath.Base(taskID) || !filepath.IsLocal(taskID) {
		return "", fmt.Errorf("task id %q: %w", taskID, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(s.dir, taskID), nil
}

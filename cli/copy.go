package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

func (s *shell) copyCommand() *command {
	return &command{
		name: "cp", operands: "TASK|CONTAINER:PATH PATH|-", short: "Copy files between a task's container, wherever it runs, and this machine",
		long: "The other way: shoal cp PATH|- TASK|CONTAINER:PATH. \"-\" is a tar archive on standard input or output.\n" +
			"A directory that exists gets the source below it; PATH/. stands for what is in PATH. A task is named by its name, its ID, or its slot: web.1.",
		flags: &flags{}, min: 2, max: 2, completes: "service",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			from, source, out := inContainer(args[0])
			to, target, in := inContainer(args[1])
			switch {
			case in == out:
				return errors.New("one of source and target must be in a container, as TASK:PATH, and the other one here")
			case out:
				return s.copyOut(ctx, api, from, source, target)
			}
			return s.copyIn(ctx, api, source, to, target)
		},
	}
}

// inContainer splits "web.1:/etc". A path that begins with / or . is here.
func inContainer(arg string) (ref, file string, ok bool) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", arg, false
	}
	ref, file, ok = strings.Cut(arg, ":")
	if !ok {
		return "", arg, false
	}
	return ref, file, true
}

// contents reports whether a path stands for what is in it.
func contents(file string) bool { return file == "." || strings.HasSuffix(file, "/.") }

func (s *shell) copyOut(ctx context.Context, api *client.Client, ref, source, target string) error {
	archive, stat, err := api.CopyFromContainer(ctx, ref, source)
	if err != nil {
		return err
	}
	defer archive.Close()
	if target == "-" {
		if s.terminal().outIs {
			return errors.New("an archive is not for a terminal: redirect standard output")
		}
		_, err := io.Copy(s.out, archive)
		return err
	}
	info, err := os.Stat(target)
	there := err == nil && info.IsDir()
	switch {
	case err != nil && !os.IsNotExist(err):
		return err
	case err == nil && !there && stat.Mode.IsDir():
		return fmt.Errorf("cannot copy directory %s of %s: %s is a file", source, ref, target)
	case err != nil && strings.HasSuffix(target, "/") && !stat.Mode.IsDir():
		return fmt.Errorf("directory %s does not exist", target)
	}
	dir, name := target, stat.Name
	switch {
	case contents(source):
		name = "."
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as mkdir
			return err
		}
	case !there:
		dir, name = filepath.Split(filepath.Clean(target))
	}
	if dir == "" {
		dir = "."
	}
	return unpack(archive, dir, name)
}

func (s *shell) copyIn(ctx context.Context, api *client.Client, source, ref, target string) error {
	if target == "" {
		return fmt.Errorf("which path in %s? want TASK:PATH", ref)
	}
	if source == "-" {
		return api.CopyToContainer(ctx, ref, target, s.in, container.CopyToContainerOptions{})
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	dir, name := path.Split(path.Clean(target))
	stat, err := api.ContainerStatPath(ctx, ref, target)
	switch {
	case err == nil && stat.Mode.IsDir():
		dir, name = target, filepath.Base(filepath.Clean(source))
		if contents(source) {
			name = "."
		}
	case err == nil && info.IsDir():
		return fmt.Errorf("cannot copy directory %s: %s of %s is a file", source, target, ref)
	case err != nil && !errdefs.IsNotFound(err):
		return err
	case err != nil && strings.HasSuffix(target, "/") && !info.IsDir():
		return fmt.Errorf("directory %s of %s does not exist", target, ref)
	}
	if dir == "" {
		dir = "/"
	}
	archive, packed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		packed.CloseWithError(pack(packed, filepath.Clean(source), name))
	}()
	err = api.CopyToContainer(ctx, ref, dir, archive, container.CopyToContainerOptions{})
	archive.Close()
	<-done
	return err
}

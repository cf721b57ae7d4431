package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
)

func (s *shell) execCommand() *command {
	var (
		o      container.ExecOptions
		detach bool
		env    []string
		f      = &flags{}
	)
	f.toggle(&detach, "detach,d", "Do not wait for its end")
	f.text(&o.DetachKeys, "detach-keys", "Keys that leave it running (format: ctrl-p,ctrl-q)")
	f.add(opts.NewListOptsRef(&env, opts.ValidateEnv), "list", "env,e", "Environment variable, repeatable (format: NAME=VALUE)")
	f.toggle(&o.AttachStdin, "interactive,i", "Hand standard input on to it")
	f.toggle(&o.Privileged, "privileged", "Give it all rights on its host")
	f.toggle(&o.Tty, "tty,t", "Give it a terminal")
	f.text(&o.User, "user,u", "User to run as (format: NAME|UID[:GROUP|GID])")
	f.text(&o.WorkingDir, "workdir,w", "Directory to run in")
	return &command{
		name: "exec", operands: "[OPTIONS] TASK|CONTAINER COMMAND [ARG...]", short: "Run a command in a task's container, wherever it runs",
		long:  "A task is named by its name, its ID, or its slot: web.1.\nExits with the code of the command.",
		flags: f, stopAtOperand: true, min: 2, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			o.Cmd, o.Env = args[1:], env
			o.AttachStdout, o.AttachStderr = !detach, !detach
			return s.exec(ctx, args[0], o, detach)
		},
	}
}

func (s *shell) exec(ctx context.Context, ref string, o container.ExecOptions, detach bool) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if o.Tty && o.AttachStdin && !detach && !s.terminal().is {
		return errors.New("the input device is not a TTY")
	}
	created, err := api.ContainerExecCreate(ctx, ref, o)
	if err != nil {
		return err
	}
	if detach {
		return api.ContainerExecStart(ctx, created.ID, container.ExecStartOptions{Detach: true, Tty: o.Tty})
	}
	stream, err := api.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{Tty: o.Tty})
	if err != nil {
		return err
	}
	defer stream.Close()
	resize := func(ctx context.Context, size container.ResizeOptions) error {
		return api.ContainerExecResize(ctx, created.ID, size)
	}
	if err := s.converse(ctx, stream, o.Tty, o.AttachStdin, resize); err != nil {
		return err
	}
	after, err := api.ContainerExecInspect(ctx, created.ID)
	if err != nil {
		return fmt.Errorf("how the command ended is not known: %w", err)
	}
	return endedWith(after.ExitCode)
}

// endedWith makes a program's exit code ours.
func endedWith(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

func (s *shell) attachCommand() *command {
	var (
		o       container.AttachOptions
		noStdin bool
		f       = &flags{}
	)
	f.text(&o.DetachKeys, "detach-keys", "Keys that leave it running (format: ctrl-p,ctrl-q)")
	f.toggle(&noStdin, "no-stdin", "Do not hand standard input on")
	return &command{
		name: "attach", operands: "[OPTIONS] TASK|CONTAINER", short: "Attach to the main program of a task's container, wherever it runs",
		long:  "A task is named by its name, its ID, or its slot: web.1. Ctrl-C ends attach and not the program, unless it has a terminal.\nExits with the code of the program if it ends.",
		flags: f, min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			o.Stream, o.Stdin, o.Stdout, o.Stderr = true, !noStdin, true, true
			return s.attach(ctx, args[0], o)
		},
	}
}

func (s *shell) attach(ctx context.Context, ref string, o container.AttachOptions) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	c, err := api.ContainerInspect(ctx, ref)
	if err != nil {
		return err
	}
	if !c.State.Running {
		return fmt.Errorf("container %s is not running, so that nothing can be attached to: see 'shoal logs %s'", ref, ref)
	}
	o.Stdin = o.Stdin && c.Config.OpenStdin
	ended, failed := api.ContainerWait(ctx, c.ID, "")
	stream, err := api.ContainerAttach(ctx, c.ID, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	resize := func(ctx context.Context, size container.ResizeOptions) error {
		return api.ContainerResize(ctx, c.ID, size)
	}
	if err := s.converse(ctx, stream, c.Config.Tty, o.Stdin, resize); err != nil {
		return err
	}
	// The stream ends with the program, or because the user has detached.
	if now, err := api.ContainerInspect(ctx, c.ID); err == nil && now.State.Running {
		return nil
	}
	select {
	case end := <-ended:
		return endedWith(int(end.StatusCode))
	case err := <-failed:
		return err
	}
}

package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/moby/term"
)

// terminal is what the user sits at.
type terminal struct {
	in, out uintptr
	is      bool // standard input is one
	outIs   bool
}

func (s *shell) terminal() terminal {
	var t terminal
	if f, ok := s.in.(*os.File); ok {
		t.in, t.is = f.Fd(), term.IsTerminal(f.Fd())
	}
	if f, ok := s.out.(*os.File); ok {
		t.out, t.outIs = f.Fd(), term.IsTerminal(f.Fd())
	}
	return t
}

// raw hands keys on as they are pressed, until back is called.
func (t terminal) raw() (back func(), err error) {
	if !t.is {
		return func() {}, nil
	}
	before, err := term.SetRawTerminal(t.in)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.RestoreTerminal(t.in, before) }, nil
}

// converse joins the user and a program, until the program's end or that of
// ctx.
func (s *shell) converse(ctx context.Context, with types.HijackedResponse, tty, stdin bool, resize func(context.Context, container.ResizeOptions) error) error {
	t := s.terminal()
	if tty && stdin {
		back, err := t.raw()
		if err != nil {
			return err
		}
		defer back()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if tty && t.outIs {
		resized := make(chan struct{})
		go func() {
			defer close(resized)
			t.follow(ctx, resize)
		}()
		defer func() { cancel(); <-resized }()
	}
	if stdin {
		// It ends with the input, or with the process: nothing interrupts a read of a
		// terminal.
		go func() {
			_, _ = io.Copy(with.Conn, s.in) // the program has ended, if it fails
			_ = with.CloseWrite()
		}()
	}
	ended := make(chan error, 1)
	go func() {
		var err error
		if tty {
			_, err = io.Copy(s.out, with.Reader)
		} else {
			_, err = stdcopy.StdCopy(s.out, s.err, with.Reader)
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		with.Close()
		<-ended
		return ctx.Err()
	}
}

// follow tells the size of the terminal, and again when it changes.
func (t terminal) follow(ctx context.Context, resize func(context.Context, container.ResizeOptions) error) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		if size, err := term.GetWinsize(t.out); err == nil {
			_ = resize(ctx, container.ResizeOptions{Height: uint(size.Height), Width: uint(size.Width)}) // it has ended, if it fails
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Package cli is shoal's command line: it turns flags into a configuration or
// an API call and prints the answer. It decides nothing that the server should
// decide, and refuses what it can see to be wrong before it sends anything.
//
// Arguments are normalised (normalise.go) to the one form urfave/cli parses
// as Docker's users mean it; urfave/cli is imported by this package alone.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/docker/client"

	"shoal/internal/node"
)

// Config is what a run of the command line needs. Zero values take the default
// named.
type Config struct {
	Args    []string  // after the program's name
	Stdin   io.Reader // os.Stdin
	Stdout  io.Writer // os.Stdout
	Stderr  io.Writer // os.Stderr
	Version string    // "dev"
	// Daemon runs a node until ctx ends; it is node.Run, or a fake.
	Daemon func(ctx context.Context, c node.Config) error
	// Getenv is os.Getenv.
	Getenv func(string) string
}

// Exit codes beside 0 and 1. Docker's meaning where Docker has one.
const (
	codeFlag        = 125 // a flag that is unknown, or has a bad value
	codeTimeout     = 124 // --wait-timeout passed before the service converged
	codeInterrupted = 130 // Ctrl-C
)

// Run executes one command line and returns the exit code of the process.
func Run(ctx context.Context, c Config) int {
	s := newShell(c)
	defer s.close()
	err := s.execute(ctx, c.Args)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = &exitError{code: codeInterrupted}
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: 1, err: err}
	}
	if client.IsErrConnectionFailed(err) || errors.Is(err, errUnreachable) {
		exit.err = fmt.Errorf("cannot connect to the shoal daemon at %s: is it running? 'shoal init' and 'shoal join' start it", s.connected())
	}
	if exit.err != nil {
		fmt.Fprintln(s.err, strings.TrimRight(exit.err.Error(), "\n"))
	}
	if exit.see != "" {
		fmt.Fprintf(s.err, "See '%s'.\n", exit.see)
	}
	return exit.code
}

// shell is one run of the command line: its streams, its connection and the
// values of the global flags.
type shell struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	version string
	daemon  func(ctx context.Context, c node.Config) error
	getenv  func(string) string

	host        host     // values of the global flags
	showVersion bool     // value of --version, which is looked for before parsing
	root        *command // the tree, for help and completion
	conn        *conn    // made by the first command that needs it
}

func newShell(c Config) *shell {
	s := &shell{
		in: c.Stdin, out: c.Stdout, err: c.Stderr,
		version: c.Version, daemon: c.Daemon, getenv: c.Getenv,
	}
	if s.in == nil {
		s.in = os.Stdin
	}
	if s.out == nil {
		s.out = os.Stdout
	}
	if s.err == nil {
		s.err = os.Stderr
	}
	if s.version == "" {
		s.version = "dev"
	}
	if s.getenv == nil {
		s.getenv = os.Getenv
	}
	s.root = s.tree()
	return s
}

// connected is the address of the daemon that was spoken to.
func (s *shell) connected() string {
	if s.conn == nil {
		return s.host.addr
	}
	return s.conn.api.DaemonHost()
}

func (s *shell) close() {
	if s.conn != nil {
		_ = s.conn.api.Close() // only idle connections are left
	}
}

// execute normalises the arguments and lets urfave/cli parse and dispatch them.
func (s *shell) execute(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == completeCommand {
		return s.complete(ctx, args[1:])
	}
	line, err := normalise(s.root, args)
	if err != nil {
		return err
	}
	if line.version() {
		fmt.Fprintf(s.out, "shoal version %s\n", s.version)
		return nil
	}
	if line.help != nil {
		out := s.out
		if !line.asked { // a group without a command: nothing was done
			out = s.err
		}
		writeHelp(out, line.help)
		return nil
	}
	return s.app().RunContext(ctx, append([]string{s.root.name}, line.args...))
}

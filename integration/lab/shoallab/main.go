// Shoallab builds a lab that stays up, and breaks it on request: what `make
// lab` runs, and what scripts use to cut and kill hosts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"shoal/integration/lab"
)

const usage = `usage: shoallab [-dir DIR] COMMAND

  up [-n HOSTS] [-form shoal|swarm|none] [-shoal BINARY] [-web BINARY]
                         build a lab of Docker hosts and form a cluster
  status                 show the hosts and what runs on them
  down                   remove the lab, and what dead labs left
  run HOST COMMAND...    run a command in a host
  cut HOST | heal HOST   cut a host off the network, or take all cuts back
  cut-between A B | cut-one-way FROM TO
  kill | pause | resume | stop HOST daemon|engine
  start HOST daemon|engine
  off HOST | on HOST | restart HOST
                         power; after "on", start the engine and the daemon
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "shoallab:", err)
		os.Exit(1)
	}
}

// run carries out the command in args.
func run(ctx context.Context, args []string, w io.Writer) error {
	flags := flag.NewFlagSet("shoallab", flag.ContinueOnError)
	dir := flags.String("dir", "/tmp/shoal-lab", "directory of the lab")
	flags.Usage = func() { fmt.Fprint(w, usage) }
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	args = flags.Args()
	if len(args) == 0 {
		flags.Usage()
		return errors.New("no command given")
	}
	switch args[0] {
	case "up":
		return up(ctx, *dir, args[1:], w)
	case "down":
		return down(*dir, w)
	}
	l, err := lab.Open(*dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no lab is up in %s", *dir)
	}
	if err != nil {
		return err
	}
	if args[0] == "status" {
		return printStatus(l, w)
	}
	return onHost(ctx, l, args[0], args[1:], w)
}

func up(ctx context.Context, dir string, args []string, w io.Writer) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	n := flags.Int("n", 5, "number of hosts")
	form := flags.String("form", "shoal", "cluster to form: shoal, swarm or none")
	shoal := flags.String("shoal", "bin/shoal", "shoal binary")
	web := flags.String("web", "", "program of the sample image to load as web:1")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bin, err := filepath.Abs(*shoal)
	if err != nil {
		return err
	}
	start := time.Now()
	l, err := lab.New(ctx, lab.Config{Dir: dir, Hosts: *n, Shoal: bin, Detach: true})
	if err != nil {
		return err
	}
	if err := furnish(ctx, l, *form, *web); err != nil {
		return errors.Join(err, logs(l), l.Close())
	}
	fmt.Fprintf(w, "%d hosts are up after %.1f s\n\n", *n, time.Since(start).Seconds())
	return printStatus(l, w)
}

// furnish loads the image and forms the cluster.
func furnish(ctx context.Context, l *lab.Lab, form, web string) error {
	if web != "" {
		if err := l.LoadImage(ctx, lab.WebImage("web:1", web)); err != nil {
			return err
		}
	}
	managers := lab.Managers(len(l.Hosts()))
	switch form {
	case "shoal":
		return l.FormShoal(ctx, managers)
	case "swarm":
		return l.FormSwarm(ctx, managers)
	case "none":
		return nil
	default:
		return fmt.Errorf("form %q: want shoal, swarm or none", form)
	}
}

// logs is what the daemons said last, as an error: the lab is about to go.
func logs(l *lab.Lab) error {
	var errs []error
	for _, h := range l.Hosts() {
		if text, err := os.ReadFile(h.Daemon().LogPath()); err == nil {
			errs = append(errs, fmt.Errorf("daemon of %s: …%s", h.Name, text[max(0, len(text)-1000):]))
		}
	}
	return errors.Join(errs...)
}

func down(dir string, w io.Writer) error {
	l, err := lab.Open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintln(w, "no lab is up in", dir)
	case err != nil:
		return err
	default:
		if err := l.Close(); err != nil {
			return err
		}
		if leaks := l.Leaks(); len(leaks) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(leaks, "\n  "))
		}
		fmt.Fprintln(w, "the lab is gone")
	}
	swept, err := lab.Sweep()
	for _, name := range swept {
		fmt.Fprintln(w, "removed", name)
	}
	return err
}

func printStatus(l *lab.Lab, w io.Writer) error {
	state := func(p *lab.Process) string {
		if p.Running() {
			return "up"
		}
		return "-"
	}
	fmt.Fprintf(w, "%-5s %-14s %-4s %-7s %-7s\n", "HOST", "ADDRESS", "ON", "ENGINE", "DAEMON")
	for _, h := range l.Hosts() {
		on := "no"
		if h.On() {
			on = "yes"
		}
		fmt.Fprintf(w, "%-5s %-14s %-4s %-7s %-7s\n", h.Name, h.Addr, on, state(h.Engine()), state(h.Daemon()))
	}
	h := l.Host(1)
	_, err := fmt.Fprintf(w, `
Point the clients at a host (here %[1]s):
  bin/shoal -H unix://%[2]s node ls
  docker -H unix://%[3]s ps        the host's own engine
  docker -H unix://%[2]s node ls    the cluster, through shoal
  bin/shoallab -dir %[4]s run %[1]s COMMAND...         in the host itself
Break it: bin/shoallab -dir %[4]s cut %[1]s | heal %[1]s | kill %[1]s daemon | off %[1]s
Read %[4]s/h*/{daemon,engine}.log
Remove all of it: bin/shoallab -dir %[4]s down (make lab-down)
`, h.Name, h.ShoalSocket(), h.DockerSocket(), l.Dir())
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"shoal/integration/lab"
)

// onHost carries out a command whose first argument is a host.
func onHost(ctx context.Context, l *lab.Lab, name string, args []string, w io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%s: which host?", name)
	}
	h, err := host(l, args[0])
	if err != nil {
		return err
	}
	rest := args[1:]
	switch name {
	case "run":
		out, err := h.Run(ctx, rest...)
		_, printed := io.WriteString(w, out)
		return errors.Join(err, printed)
	case "cut":
		return h.Cut()
	case "heal":
		return h.Heal()
	case "off":
		return h.PowerOff()
	case "on":
		return h.PowerOn(ctx)
	case "restart":
		return h.Restart(ctx)
	case "cut-between", "cut-one-way":
		return cutTwo(l, name, h, rest)
	case "start", "stop", "kill", "pause", "resume":
		if len(rest) != 1 {
			return fmt.Errorf("%s %s: want daemon or engine", name, h.Name)
		}
		return onProcess(ctx, h, name, rest[0])
	default:
		return fmt.Errorf("unknown command %q; shoallab -h lists them", name)
	}
}

func host(l *lab.Lab, name string) (*lab.Host, error) {
	for _, h := range l.Hosts() {
		if h.Name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("host %q: want h1 to h%d", name, len(l.Hosts()))
}

func cutTwo(l *lab.Lab, name string, from *lab.Host, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s %s: want another host", name, from.Name)
	}
	to, err := host(l, args[0])
	if err != nil {
		return err
	}
	if name == "cut-one-way" {
		return l.CutOneWay(from, to)
	}
	return l.CutBetween(from, to)
}

func onProcess(ctx context.Context, h *lab.Host, name, which string) error {
	var p *lab.Process
	start := h.StartEngine
	switch which {
	case "engine":
		p = h.Engine()
	case "daemon":
		p, start = h.Daemon(), func(ctx context.Context) error { return h.StartDaemon(ctx) }
	default:
		return fmt.Errorf("process %q: want daemon or engine", which)
	}
	switch name {
	case "start":
		return start(ctx)
	case "stop":
		return p.Stop(ctx)
	case "kill":
		return p.Kill9()
	case "pause":
		return p.Pause()
	default:
		return p.Resume()
	}
}

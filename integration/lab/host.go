package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ClusterPort is where a daemon listens for the other nodes.
const ClusterPort = "2377"

// Host is one machine of a lab.
type Host struct {
	// Name is "h1", "h2", …; the host's hostname and its port on the switch.
	Name string
	// Addr is the host's address in the lab, without a port.
	Addr string
	// Addr6 is its IPv6 address there.
	Addr6 string
	// Dir is the host's disk: it outlives PowerOff.
	Dir string

	num        int
	lab        *Lab
	tree       *tree // nil when off
	daemonArgs []string
}

func newHost(l *Lab, num int) *Host {
	name := fmt.Sprintf("h%d", num)
	return &Host{Name: name, Addr: l.addr(num), Addr6: l.addr6(num), Dir: filepath.Join(l.cfg.Dir, name), num: num, lab: l}
}

// DockerSocket is the path of the engine's socket, from inside and outside.
func (h *Host) DockerSocket() string { return filepath.Join(h.Dir, "docker.sock") }

// ShoalSocket is the path of the daemon's socket, from inside and outside.
// Inside the host the default path /run/shoal/shoal.sock leads to it as well.
func (h *Host) ShoalSocket() string { return filepath.Join(h.Dir, "shoal.sock") }

// StateDir is where the daemon keeps its state.
func (h *Host) StateDir() string { return filepath.Join(h.Dir, "shoal") }

// Engine is the host's Docker Engine.
func (h *Host) Engine() *Process { return h.process("engine") }

// Daemon is the host's shoal daemon.
func (h *Host) Daemon() *Process { return h.process("daemon") }

func (h *Host) process(name string) *Process { return &Process{h: h, name: name} }

// On says whether the host is switched on.
func (h *Host) On() bool { return h.tree.alive() }

// PowerOn boots the host: namespaces, an empty /run, its link. It starts
// neither the engine nor the daemon.
func (h *Host) PowerOn(ctx context.Context) error {
	if h.On() {
		return fmt.Errorf("%s is on already", h.Name)
	}
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return err
	}
	t, err := h.lab.spawn(hostSpaces, hostInit, h.Name, h.Dir)
	if err != nil {
		return err
	}
	h.tree = t
	if err := h.lab.plugIn(ctx, h); err != nil {
		return err
	}
	return h.save()
}

// PowerOff pulls the plug: every process of the host is gone at once, the
// disk stays.
func (h *Host) PowerOff() error {
	if err := h.tree.kill(); err != nil {
		return err
	}
	// the kernel removes the link with the host, but not before we go on
	_, err := h.lab.inSwitch(context.Background(), "", "ip", "link", "del", h.Name)
	if err != nil && !strings.Contains(err.Error(), "Cannot find device") {
		return err
	}
	return nil
}

// Restart is a power cut: off, on, and what ran before runs again.
func (h *Host) Restart(ctx context.Context) error {
	engine, daemon := h.Engine().Running(), h.Daemon().Running()
	if err := h.PowerOff(); err != nil {
		return err
	}
	if err := h.PowerOn(ctx); err != nil {
		return err
	}
	if engine {
		if err := h.StartEngine(ctx); err != nil {
			return err
		}
	}
	if daemon {
		return h.StartDaemon(ctx, h.daemonArgs...)
	}
	return nil
}

// StartEngine starts the host's dockerd and waits until it answers.
func (h *Host) StartEngine(ctx context.Context) error {
	p, err := h.Start(ctx, "engine", append([]string{
		"dockerd",
		"--data-root", filepath.Join(h.Dir, "docker"),
		"--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
		"-H", "unix:///run/docker.sock", "-H", "unix://" + h.DockerSocket(),
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + labName(h.lab.num) + "/" + h.Name,
	}, h.lab.cfg.EngineArgs...)...)
	if err != nil {
		return err
	}
	return h.await(ctx, p, h.DockerSocket())
}

// StartDaemon starts `shoal daemon` with the flags that fit this host and
// args after them, and waits until it answers. Restart repeats args.
func (h *Host) StartDaemon(ctx context.Context, args ...string) error {
	h.daemonArgs = args
	p, err := h.Start(ctx, "daemon", append([]string{
		h.lab.cfg.Shoal, "daemon",
		"--state-dir", h.StateDir(), "--socket", h.ShoalSocket(),
		"--engine", "unix://" + h.DockerSocket(),
		"--listen-addr", net.JoinHostPort(h.Addr, ClusterPort), "--advertise-addr", h.Addr,
	}, args...)...)
	if err != nil {
		return err
	}
	return h.await(ctx, p, h.ShoalSocket())
}

// StopEngine stops the engine as an operator would.
func (h *Host) StopEngine(ctx context.Context) error { return h.Engine().Stop(ctx) }

// await waits until the process answers /_ping on its socket or has ended.
func (h *Host) await(ctx context.Context, p *Process, socket string) error {
	client := unixClient(socket)
	defer client.CloseIdleConnections()
	return poll(ctx, func() (string, bool, error) {
		if !p.Running() {
			return "", false, fmt.Errorf("%s of %s ended: %s", p.name, h.Name, p.Log(2000))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://host/_ping", nil)
		if err != nil {
			return "", false, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err.Error(), false, nil
		}
		resp.Body.Close()
		return resp.Status, resp.StatusCode == http.StatusOK, nil
	})
}

func unixClient(socket string) *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}

// Run runs argv in the host and returns its standard output.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	return h.RunInput(ctx, "", argv...)
}

// RunInput is Run with a standard input.
func (h *Host) RunInput(ctx context.Context, stdin string, argv ...string) (string, error) {
	if !h.On() {
		return "", fmt.Errorf("%s is off", h.Name)
	}
	return command(ctx, stdin, h.tree.enter(argv...)...)
}

// Docker runs the docker command line on the host's engine.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	return h.Run(ctx, append([]string{"docker", "-H", "unix://" + h.DockerSocket()}, args...)...)
}

// Shoal runs the shoal command line on the host's daemon.
func (h *Host) Shoal(ctx context.Context, args ...string) (string, error) {
	return h.Run(ctx, append([]string{h.lab.cfg.Shoal, "-H", "unix://" + h.ShoalSocket()}, args...)...)
}

// Cut lets nothing pass between the host and everyone else.
func (h *Host) Cut() error { return h.lab.Cut(h) }

// Heal takes back every cut that concerns the host.
func (h *Host) Heal() error { return h.lab.Heal(h) }

// mac makes the host's link address from its number, so that it is the same
// after a restart and neighbours need not learn it again.
func (h *Host) mac() string { return fmt.Sprintf("02:d5:00:00:%02x:%02x", h.lab.num, h.num) }

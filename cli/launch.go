package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// launchTimeout: a daemon on a slow disk with a large log to replay.
	launchTimeout = 60 * time.Second
	// launchPoll: below what a user notices.
	launchPoll = 50 * time.Millisecond
	unitPath   = "/etc/systemd/system/shoal.service"
)

// ensureDaemon starts a daemon when none answers on a unix socket.
func (s *shell) ensureDaemon(ctx context.Context, d daemonFlags, f *flags) error {
	h, err := s.host.resolve(s.getenv)
	if err != nil {
		return err
	}
	d.socket = h.socket()
	if d.socket != "" {
		if err := d.check(); err != nil {
			return err
		}
	}
	if d.socket == "" || answers(d.socket) {
		return refuseLocal(f, h)
	}
	if d.socket != strings.TrimPrefix(defaultHost, "unix://") && !f.changed("state-dir") {
		return fmt.Errorf("no daemon answers at %s: start `shoal daemon` there, or say with --state-dir where the one to be started keeps its state", h.addr)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find shoal's own program: %w", err)
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return s.launchUnit(ctx, exe, d)
	}
	return s.launchDetached(ctx, exe, d)
}

// refuseLocal: flags for a daemon to be started say nothing to one that runs.
func refuseLocal(f *flags, h host) error {
	for _, name := range []string{"state-dir", "engine", "gossip-port"} {
		if f.changed(name) {
			return fmt.Errorf("--%s is for starting a daemon, but one answers at %s already; stop it first or leave the flag out", name, h.addr)
		}
	}
	return nil
}

func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// args are the flags of the `shoal daemon` that d describes.
func (d *daemonFlags) args() []string {
	args := []string{"daemon", "--state-dir", d.stateDir, "--socket", d.socket, "--engine", d.engine, "--gossip-port", strconv.FormatInt(d.gossipPort, 10)}
	if d.listen != "" {
		args = append(args, "--listen-addr", d.listen)
	}
	if d.advertise != "" {
		args = append(args, "--advertise-addr", d.advertise)
	}
	return args
}

// launchDetached starts the daemon in its own session, with a log file.
func (s *shell) launchDetached(ctx context.Context, exe string, d daemonFlags) error {
	if err := os.MkdirAll(d.stateDir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(d.socket), 0o755); err != nil {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	logPath := filepath.Join(d.stateDir, "daemon.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	began, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open the daemon's log: %w", err)
	}
	cmd := exec.Command(exe, d.args()...) //nolint:gosec // our own program
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	pid := cmd.Process.Pid
	fmt.Fprintf(s.err, "Started shoal daemon (pid %d, log %s)\n", pid, logPath)
	return awaitSocket(ctx, d.socket, func() error { return ended(pid) }, func() string { return logTail(logPath, began) })
}

// ended is how the child went, nil while it is there. It is asked rather than
// waited for, because the child is to outlive us.
func ended(pid int) error {
	var status syscall.WaitStatus
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	switch {
	case err != nil || got != pid:
		return nil
	case status.Signaled():
		return fmt.Errorf("signal: %s", status.Signal())
	}
	return fmt.Errorf("exit status %d", status.ExitStatus())
}

// awaitSocket waits until the daemon answers, ends, or takes too long.
func awaitSocket(ctx context.Context, socket string, ended func() error, why func() string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, launchTimeout, fmt.Errorf("no answer within %s", launchTimeout))
	defer cancel()
	tick := time.NewTicker(launchPoll)
	defer tick.Stop()
	for !answers(socket) {
		if err := ended(); err != nil {
			return fmt.Errorf("the daemon ended at once (%w):\n%s", err, why())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer at unix://%s: %w:\n%s", socket, context.Cause(ctx), why())
		case <-tick.C:
		}
	}
	return nil
}

// logTail is what the daemon wrote since offset, its last lines.
func logTail(path string, offset int64) string {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) <= offset {
		return "see " + path
	}
	lines := strings.Split(strings.TrimRight(string(data[offset:]), "\n"), "\n")
	const shown = 10
	if len(lines) > shown {
		lines = lines[len(lines)-shown:]
	}
	return strings.Join(lines, "\n")
}

// unit is the systemd unit. KillMode=process: containers and their shims are
// not the daemon's to kill.
func unit(exe string, d daemonFlags) string {
	quoted := []string{systemdQuote(exe)}
	for _, arg := range d.args() {
		quoted = append(quoted, systemdQuote(arg))
	}
	return `[Unit]
Description=shoal, a container cluster that speaks Docker
After=network-online.target docker.service
Wants=network-online.target

[Service]
ExecStart=` + strings.Join(quoted, " ") + `
Restart=always
RestartSec=1
KillMode=process
LimitNOFILE=1048576
TasksMax=infinity
RuntimeDirectory=shoal
RuntimeDirectoryPreserve=yes

[Install]
WantedBy=multi-user.target
`
}

// systemdQuote: systemd expands % and $, and splits at blanks.
func systemdQuote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(s)
	if strings.ContainsAny(s, " \t'\"") || s == "" {
		return `"` + s + `"`
	}
	return s
}

// launchUnit writes the unit when it is new or different, and starts it.
func (s *shell) launchUnit(ctx context.Context, exe string, d daemonFlags) error {
	want := unit(exe, d)
	have, err := os.ReadFile(unitPath)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read the systemd unit: %w", err)
	}
	verb := "start"
	if string(have) != want {
		verb = "restart"
		if err := os.WriteFile(unitPath, []byte(want), 0o644); err != nil { //nolint:gosec // units are readable
			return fmt.Errorf("write the systemd unit: %w", err)
		}
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "shoal.service"}, {verb, "shoal.service"}} {
		if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil { //nolint:gosec // constant arguments
			return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	fmt.Fprintln(s.err, "Started shoal.service (log: journalctl -u shoal)")
	return awaitSocket(ctx, d.socket, func() error { return nil }, func() string { return "see journalctl -u shoal" })
}

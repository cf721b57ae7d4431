package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a process may take to end after SIGTERM: dockerd
// stops its containers first, and gives them 10 s by default.
const stopGrace = 20 * time.Second

// Process is a long-running program of a host: its engine, its daemon, or
// another that a test started. It is known by its pid file, so that a later
// process can signal it too.
type Process struct {
	h    *Host
	name string
}

// startScript leaves a program running in the background of a host, where
// the host's first process becomes its parent, and prints its process id.
const startScript = `cd "$1" && log=$2 && shift 2
setsid "$@" >>"$log" 2>&1 </dev/null &
echo $!`

// Start runs argv in h under a name, with its output in NAME.log. It returns
// when the program has been started, not when it is ready.
func (h *Host) Start(ctx context.Context, name string, argv ...string) (*Process, error) {
	p := h.process(name)
	if p.Running() {
		return nil, fmt.Errorf("%s of %s runs already", name, h.Name)
	}
	out, err := h.Run(ctx, append([]string{"sh", "-c", startScript, "sh", h.Dir, p.LogPath()}, argv...)...)
	if err != nil {
		return nil, err
	}
	pid, err := h.outerPID(strings.TrimSpace(out))
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w: %s", name, h.Name, err, p.Log(2000))
	}
	return p, os.WriteFile(p.pidPath(), []byte(strconv.Itoa(pid)), 0o644)
}

// outerPID translates the process id of a child of the host's first process.
func (h *Host) outerPID(inner string) (int, error) {
	first := h.tree.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", first, first))
	if err != nil {
		return 0, err
	}
	for pid := range strings.FieldsSeq(string(children)) {
		status, _ := os.ReadFile("/proc/" + pid + "/status")
		for line := range strings.Lines(string(status)) {
			if ids, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.HasSuffix(strings.TrimSpace(ids), "\t"+inner) {
				return strconv.Atoi(pid)
			}
		}
	}
	return 0, errors.New("it ended at once")
}

// PID is the process id as this process sees it, 0 when it does not run.
func (p *Process) PID() int {
	b, err := os.ReadFile(p.pidPath())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil || p.h.tree == nil || namespace(pid, "net") != p.h.tree.NetNS {
		return 0
	}
	return pid
}

// Running says whether the process exists, paused or not.
func (p *Process) Running() bool { return p.PID() != 0 }

// LogPath is where the process's output is.
func (p *Process) LogPath() string { return filepath.Join(p.h.Dir, p.name+".log") }

func (p *Process) pidPath() string { return filepath.Join(p.h.Dir, p.name+".pid") }

// Kill9 ends the process at once and waits until it is gone.
func (p *Process) Kill9() error {
	pid := p.PID()
	if pid == 0 {
		return p.notRunning()
	}
	return killAndWait(pid)
}

// Stop asks the process to end, waits for it, and kills it when it does not.
func (p *Process) Stop(ctx context.Context) error {
	pid := p.PID()
	if pid == 0 {
		return p.notRunning()
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	err := signalAndWait(ctx, pid, unix.SIGTERM)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(fmt.Errorf("%s of %s ignored SIGTERM for %v", p.name, p.h.Name, stopGrace), p.Kill9())
	}
	return err
}

// Pause freezes the process; to the others it hangs.
func (p *Process) Pause() error { return p.signal(unix.SIGSTOP) }

// Resume wakes the process after a Pause.
func (p *Process) Resume() error { return p.signal(unix.SIGCONT) }

func (p *Process) signal(sig unix.Signal) error {
	pid := p.PID()
	if pid == 0 {
		return p.notRunning()
	}
	return unix.Kill(pid, sig)
}

func (p *Process) notRunning() error {
	return fmt.Errorf("%s of %s does not run", p.name, p.h.Name)
}

// Log is the last n bytes of the process's output.
func (p *Process) Log(n int) string { return tail(p.LogPath(), n) }

func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}

func killAndWait(pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	return signalAndWait(ctx, pid, unix.SIGKILL)
}

// signalAndWait signals a process that need not be a child of this one and
// waits until it has ended.
func signalAndWait(ctx context.Context, pid int, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		// 50ms: how late the end of ctx may be noticed
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the end of process %d: %w", pid, ctx.Err())
		}
	}
}

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostInit prepares the namespaces of a host and then becomes its first
// process. A fresh sysfs shows the host's own links; the cgroup mounts below
// the old one are carried over, which `ip netns exec` would lose.
const hostInit = `set -e
mount --make-rprivate /
hostname "$1"
ip link set lo up
mount -t proc none /proc
mkdir -p "$2/etc" "$2/cg" /etc/docker
mount --rbind /sys/fs/cgroup "$2/cg"
mount -t sysfs none /sys
mount --move "$2/cg" /sys/fs/cgroup
mount --bind "$2/etc" /etc/docker
mount -t tmpfs -o mode=755 none /run
mkdir /run/shoal /run/lock
ln -s "$2/shoal.sock" /run/shoal/shoal.sock
` + becomeInit

// switchInit is the same for the switch, which is nothing but a network.
const switchInit = `set -e
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
` + becomeInit

// becomeInit tells the lab that the host is ready and leaves a process that
// reaps orphans and lives until it is killed.
const becomeInit = `echo ready
exec docker-init -s -- sleep infinity >/dev/null 2>&1 </dev/null
`

const (
	switchSpaces = unix.CLONE_NEWNET | unix.CLONE_NEWPID
	hostSpaces   = switchSpaces | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
)

// tree is all processes of a host: those in the PID namespace whose first
// process is Pid. The namespaces tell it from a process that got its number.
type tree struct {
	Pid   int
	PidNS string
	NetNS string
}

// spawn starts the first process of a host and waits until script is through.
func (l *Lab) spawn(spaces uintptr, script string, args ...string) (*tree, error) {
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces, Setsid: true}
	if !l.cfg.Detach {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = startAndReap(cmd, &l.reap)
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start a host (is this a privileged root?): %w", err)
	}
	said, _ := io.ReadAll(out)
	t := &tree{Pid: cmd.Process.Pid}
	if string(bytes.TrimSpace(said)) != "ready" {
		return nil, errors.Join(fmt.Errorf("prepare a host: %s", said), t.kill())
	}
	t.PidNS, t.NetNS = namespace(t.Pid, "pid"), namespace(t.Pid, "net")
	return t, nil
}

// startAndReap starts cmd and waits for it in a goroutine that reap counts.
// The goroutine keeps its thread, because Pdeathsig is sent when the thread
// that started the child ends, not when the process does.
func startAndReap(cmd *exec.Cmd, reap *sync.WaitGroup) error {
	started := make(chan error, 1)
	reap.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by its log
		}
	})
	return <-started
}

// alive says whether the tree's first process still runs.
func (t *tree) alive() bool {
	return t != nil && t.NetNS != "" && namespace(t.Pid, "net") == t.NetNS // a zombie has none
}

// kill ends all processes of the tree and waits for their end: the kernel
// reports the death of a PID namespace's first process after all others'.
func (t *tree) kill() error {
	if t == nil || t.Pid == 0 || (t.NetNS != "" && !t.alive()) {
		return nil
	}
	return killAndWait(t.Pid)
}

// enter is the argv that runs argv in the host's namespaces.
func (t *tree) enter(argv ...string) []string {
	return append([]string{"nsenter", "-t", strconv.Itoa(t.Pid), "-m", "-u", "-i", "-n", "-p", "--"}, argv...)
}

// enterNet is the argv that runs argv in the host's network namespace alone.
func (t *tree) enterNet(argv ...string) []string {
	return append([]string{"nsenter", "-t", strconv.Itoa(t.Pid), "-n", "--"}, argv...)
}

// namespace is the identity of a process's namespace, "" when it is gone.
func namespace(pid int, kind string) string {
	s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return ""
	}
	return s
}

// killWithChildren ends nsenter and the program it waits for.
func killWithChildren(p *os.Process) error {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.Pid, p.Pid))
	for child := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return p.Kill()
}

// command runs argv and returns what it printed to standard output; its
// error holds the standard error.
func command(ctx context.Context, stdin string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return killWithChildren(cmd.Process) }
	cmd.WaitDelay = time.Second // for grandchildren that hold the output open
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

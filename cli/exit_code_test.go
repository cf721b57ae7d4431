package cli

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// What the exit code of each command that waits says of the service.
func TestExitCodesOfCommandsThatWait(t *testing.T) {
	commands := map[string]string{
		"create":        "service create --name new %s nginx",
		"update":        "service update --env-add B=2 %s web",
		"scale":         "service scale %s web=2",
		"rollback":      "service rollback %s web",
		"rollback --to": "service rollback --to 2 %s web",
	}
	for command, line := range commands {
		ref := "web"
		if command == "create" {
			ref = "new"
		}
		for _, c := range []struct {
			name   string
			state  swarm.TaskState
			update swarm.UpdateState
			flag   string
			cut    time.Duration // until Ctrl-C; 0: none
			code   int
			stderr string
		}{
			{name: "runs"},
			{name: "rolled back", update: swarm.UpdateStateRollbackCompleted, code: 1, stderr: "service update rolled back: because; see 'shoal why " + ref + "'"},
			{name: "paused", update: swarm.UpdateStatePaused, code: 1, stderr: "service update paused: because; see 'shoal why " + ref + "'"},
			{name: "rollback paused", update: swarm.UpdateStateRollbackPaused, code: 1, stderr: "service rollback paused: because"},
			{name: "timed out", state: swarm.TaskStateStarting, flag: "--wait-timeout 300ms", code: codeTimeout, stderr: "service " + ref + " has not converged within --wait-timeout 300ms (overall progress: 0 out of "},
			{name: "interrupted", state: swarm.TaskStateStarting, cut: 500 * time.Millisecond, code: codeInterrupted, stderr: "Operation continuing in background.\nUse `shoal service ps " + ref + "`"},
			{name: "detached", state: swarm.TaskStateStarting, flag: "--detach"},
			{name: "detached from a failure", update: swarm.UpdateStatePaused, flag: "--detach"},
		} {
			t.Run(command+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				f := cluster(t)
				f.begun = c.state
				if c.update != "" {
					f.update = &swarm.UpdateStatus{State: c.update, Message: "because"}
				}
				ctx := context.Background()
				if c.cut > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.cut)
					defer cancel()
					ctx = interruptible(t, ctx)
				}
				want := c.code
				if strings.HasPrefix(command, "rollback") && c.update == swarm.UpdateStateRollbackCompleted {
					want, c.stderr = 0, "" // as it was asked
				}
				_, stderr, code := f.runContext(ctx, t, strings.Fields(strings.Replace(line, "%s", c.flag, 1))...)
				if code != want || !strings.Contains(stderr, c.stderr) {
					t.Errorf("exit %d, want %d; stderr %q, want %q", code, want, stderr, c.stderr)
				}
			})
		}
	}
}

// interruptible is a context that is canceled, as by a signal, when ctx ends.
func interruptible(t *testing.T, ctx context.Context) context.Context { //nolint:revive // as t.Helper has it
	t.Helper()
	signaled, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	t.Cleanup(func() { stop(); cancel() })
	return signaled
}

// What failed before the time was up is not forgotten.
func TestScaleOfSeveralTellsAll(t *testing.T) {
	f := cluster(t)
	f.begun = swarm.TaskStateStarting
	_, stderr, code := f.run(t, "service", "scale", "--wait-timeout", "300ms", "nosuch=1", "web=2")
	if code != codeTimeout || !strings.Contains(stderr, "nosuch: ") || !strings.Contains(stderr, "service web has not converged") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

// The signal itself, as the process gets it: the service goes on, and how to
// follow it is said.
func TestSIGINTLeavesTheServiceAsItIs(t *testing.T) {
	f := cluster(t)
	f.begun = swarm.TaskStateStarting
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	kill := time.AfterFunc(500*time.Millisecond, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGINT) })
	defer kill.Stop()
	_, stderr, code := f.runContext(ctx, t, "service", "update", "--env-add", "B=2", "web")
	want := "Operation continuing in background.\nUse `shoal service ps web` to check progress, `shoal why web` to see what it waits for.\n"
	if code != codeInterrupted || stderr != want {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
	if writes := f.writes(); len(writes) != 1 {
		t.Errorf("it has asked for more than the update: %q", writes)
	}
}

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/cli/format"
)

func replicated(n uint64) swarm.Service {
	s := swarm.Service{ID: "s1"}
	s.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
	return s
}

func task(slot int, state, desired swarm.TaskState) swarm.Task {
	return swarm.Task{Slot: slot, NodeID: "n1", DesiredState: desired, Status: swarm.TaskStatus{State: state}}
}

func runningTasks(n int) []swarm.Task {
	var out []swarm.Task
	for i := range n {
		out = append(out, task(i+1, "running", "running"))
	}
	return out
}

func TestStepConvergesAfterTheMonitorPeriod(t *testing.T) {
	now := time.Now()
	c := convergence{}
	s := sight{service: replicated(2), tasks: runningTasks(2)}
	if o := c.step(s, now); o.done || !strings.HasPrefix(o.frame.Footer, "verify: Waiting 5 seconds") || o.frame.Header != "overall progress: 2 out of 2 tasks" {
		t.Errorf("all run: %+v", o)
	}
	if o := c.step(sight{service: s.service, tasks: runningTasks(1)}, now.Add(4*time.Second)); o.done || o.frame.Footer != "verify: Detected task failure" {
		t.Errorf("one is lost: %+v", o)
	}
	if o := c.step(s, now.Add(6*time.Second)); o.done {
		t.Errorf("the period must start again: %+v", o)
	}
	if o := c.step(s, now.Add(11*time.Second)); !o.done || o.err != nil || o.frame.Footer != "verify: Service s1 converged" {
		t.Errorf("stable for 5 s: %+v", o)
	}
}

func TestStepUsesTheMonitorOfTheService(t *testing.T) {
	now := time.Now()
	s := sight{service: replicated(1), tasks: runningTasks(1)}
	s.service.Spec.UpdateConfig = &swarm.UpdateConfig{Monitor: time.Minute}
	c := convergence{}
	c.step(s, now)
	if o := c.step(s, now.Add(59*time.Second)); o.done {
		t.Error("converged before the monitor period")
	}
	if o := c.step(s, now.Add(time.Minute)); !o.done {
		t.Error("not converged after the monitor period")
	}
}

func TestStepCountsPlaces(t *testing.T) {
	global := swarm.Service{ID: "g"}
	global.Spec.Mode.Global = &swarm.GlobalService{}
	on := func(node string, state swarm.TaskState) swarm.Task {
		return swarm.Task{NodeID: node, DesiredState: "running", Status: swarm.TaskStatus{State: state}}
	}
	tests := []struct {
		name   string
		sight  sight
		header string
	}{
		{"a replacement that is not up hides what it replaces", sight{service: replicated(1), tasks: []swarm.Task{task(1, "running", "shutdown"), task(1, "preparing", "running")}}, "0 out of 1 tasks"},
		{"a task to be shut down does not count", sight{service: replicated(1), tasks: []swarm.Task{task(1, "running", "shutdown")}}, "0 out of 1 tasks"},
		{"a task on a node that is down does not count", sight{service: replicated(2), tasks: runningTasks(2), down: map[string]bool{"n1": true}}, "0 out of 2 tasks"},
		{"tasks of unknown states are passed over", sight{service: replicated(1), tasks: []swarm.Task{task(1, "orphaned", "running")}}, "0 out of 1 tasks"},
		{"no replicas are wanted", sight{service: replicated(0)}, "0 out of 0 tasks"},
		{"global: one per node", sight{service: global, tasks: []swarm.Task{on("n1", "running"), on("n2", "starting")}}, "1 out of 2 tasks"},
		{"global: none yet", sight{service: global}, "waiting for new tasks"},
		{"global: a node that is down is not waited for", sight{service: global, tasks: []swarm.Task{on("n1", "running"), on("n2", "running")}, down: map[string]bool{"n2": true}}, "1 out of 1 tasks"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := convergence{}
			if o := c.step(tt.sight, time.Now()); o.frame.Header != "overall progress: "+tt.header || o.err != nil {
				t.Errorf("got %q, err %v", o.frame.Header, o.err)
			}
		})
	}
}

func TestStepShowsBarsUpToTwenty(t *testing.T) {
	c := convergence{}
	broken := task(3, "rejected", "shutdown")
	broken.Status.Err = "No such image:\n" + strings.Repeat("x", 100)
	o := c.step(sight{service: replicated(3), tasks: []swarm.Task{task(1, "running", "running"), task(2, "preparing", "running"), broken}}, time.Now())
	want := []format.Bar{{Name: "1/3", Text: "running", Current: 9, Total: 9}, {Name: "2/3", Text: "preparing", Current: 6, Total: 9}, {Name: "3/3", Text: "No such image: " + strings.Repeat("x", 59) + "…"}}
	if fmt.Sprint(o.frame.Bars) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", o.frame.Bars, want)
	}
	if o := (&convergence{}).step(sight{service: replicated(21), tasks: runningTasks(21)}, time.Now()); len(o.frame.Bars) != 0 {
		t.Errorf("%d bars for 21 tasks", len(o.frame.Bars))
	}
}

func TestStepReadsTheUpdateStatus(t *testing.T) {
	tests := []struct {
		state swarm.UpdateState
		asked bool
		err   string
	}{
		{"paused", false, "service update paused: because"},
		{"rollback_paused", false, "service rollback paused: because"},
		{"rollback_completed", false, "service update rolled back: because"},
		{"rollback_completed", true, ""},
		{"completed", false, ""},
		{"updating", false, ""},
	}
	for _, tt := range tests {
		c := convergence{asked: tt.asked}
		s := sight{service: replicated(1), tasks: runningTasks(1)}
		s.service.UpdateStatus = &swarm.UpdateStatus{State: tt.state, Message: "because"}
		o := c.step(s, time.Now())
		if o.err == nil {
			if o.done {
				t.Errorf("%s: done without verification", tt.state)
			}
			o = c.step(s, time.Now().Add(time.Minute))
		}
		got := ""
		if o.err != nil {
			got = o.err.Error()
		}
		if got != tt.err {
			t.Errorf("%s, asked %t: %q, want %q", tt.state, tt.asked, got, tt.err)
		}
	}
	c := convergence{}
	s := sight{service: replicated(1), tasks: runningTasks(1)}
	s.service.UpdateStatus = &swarm.UpdateStatus{State: "rollback_started", Message: "due to failure of task t1"}
	c.step(s, time.Now())
	s.service.UpdateStatus = &swarm.UpdateStatus{State: "rollback_completed", Message: "rollback completed"}
	if o := c.step(s, time.Now().Add(time.Minute)); o.err == nil || o.err.Error() != "service update rolled back: due to failure of task t1" {
		t.Errorf("rolled back: %v", o.err)
	}
	c = convergence{}
	s = sight{service: replicated(1)}
	s.service.UpdateStatus = &swarm.UpdateStatus{State: "rollback_started"}
	if o := c.step(s, time.Now()); o.frame.Header != "overall progress: rolling back update: 0 out of 1 tasks" {
		t.Errorf("rolling back: %q", o.frame.Header)
	}
}

func TestStepEndsWithTheJob(t *testing.T) {
	n := uint64(2)
	s := swarm.Service{JobStatus: &swarm.JobStatus{JobIteration: swarm.Version{Index: 7}}}
	s.Spec.Mode.ReplicatedJob = &swarm.ReplicatedJob{TotalCompletions: &n, MaxConcurrent: &n}
	done := func(slot int, iteration uint64) swarm.Task {
		return swarm.Task{Slot: slot, JobIteration: &swarm.Version{Index: iteration}, Status: swarm.TaskStatus{State: "complete"}}
	}
	c := convergence{}
	if o := c.step(sight{service: s, tasks: []swarm.Task{done(0, 7), done(1, 6)}}, time.Now()); o.done || o.frame.Header != "job progress: 1 out of 2 complete, 0 active" {
		t.Errorf("a task of an earlier iteration counts: %+v", o)
	}
	if o := c.step(sight{service: s, tasks: []swarm.Task{done(0, 7), done(1, 7)}}, time.Now()); !o.done {
		t.Errorf("not done: %+v", o)
	}
}

func TestStepGivesUpWhatThePolicyGaveUp(t *testing.T) {
	failed := task(1, "failed", "shutdown")
	failed.Status.Err = "task: non-zero exit (1)"
	ended := task(1, "complete", "shutdown")
	later := task(1, "ready", "ready")
	later.CreatedAt = time.Now()
	onNode := failed
	onNode.Slot = 0
	global := swarm.Service{}
	global.Spec.Mode.Global = &swarm.GlobalService{}
	n := uint64(1)
	job := swarm.Service{JobStatus: &swarm.JobStatus{}}
	job.Spec.Mode.ReplicatedJob = &swarm.ReplicatedJob{TotalCompletions: &n, MaxConcurrent: &n}
	run := func(t swarm.Task, iteration uint64) swarm.Task {
		t.Slot, t.JobIteration = 0, &swarm.Version{Index: iteration}
		return t
	}
	for name, c := range map[string]struct {
		sight sight
		over  bool
	}{
		"failed, with nothing to follow":   {sight{service: replicated(1), tasks: []swarm.Task{failed}}, true},
		"complete, with nothing to follow": {sight{service: replicated(1), tasks: []swarm.Task{ended}}, true},
		"of a global service":              {sight{service: global, tasks: []swarm.Task{onNode}}, true},
		"of a job":                         {sight{service: job, tasks: []swarm.Task{run(failed, 0)}}, true},
		"of an earlier run":                {sight{service: job, tasks: []swarm.Task{run(failed, 7)}}, false},
		"it is tried again":                {sight{service: replicated(1), tasks: []swarm.Task{failed, later}}, false},
		"it was stopped":                   {sight{service: replicated(1), tasks: []swarm.Task{task(1, "shutdown", "shutdown")}}, false},
		"not dealt with yet":               {sight{service: replicated(1), tasks: []swarm.Task{task(1, "failed", "running")}}, false},
		"nothing there yet":                {sight{service: replicated(1)}, false},
	} {
		c1, now := convergence{}, time.Now()
		if o := c1.step(c.sight, now); o.err != nil {
			t.Errorf("%s: at once: %v", name, o.err)
		}
		o := c1.step(c.sight, now.Add(giveUpAfter))
		if (o.err != nil) != c.over || c.over && !strings.Contains(o.err.Error(), "restart policy") {
			t.Errorf("%s: %v", name, o.err)
		}
	}
}

// script answers with one sight after the other, and repeats the last.
type script struct {
	sights []sight
	err    error
	until  time.Time // of err; zero: for good
	looks  int
}

func (s *script) look(ctx context.Context) (sight, error) {
	if ctx.Err() != nil {
		return sight{}, ctx.Err()
	}
	if s.err != nil && (s.until.IsZero() || time.Now().Before(s.until)) {
		return sight{}, s.err
	}
	at := min(s.looks, len(s.sights)-1)
	s.looks++
	return s.sights[at], nil
}

func followed(ctx context.Context, w waitFlags, from watched) (out string, took time.Duration, err error) {
	var stdout, stderr bytes.Buffer
	s := newShell(Config{Stdout: &stdout, Stderr: &stderr})
	began := time.Now()
	err = s.follow(ctx, w, "web", from, format.NewLines(&stdout))
	return stdout.String() + stderr.String(), time.Since(began), err
}

func TestFollow(t *testing.T) {
	starting := sight{service: replicated(1), tasks: []swarm.Task{task(1, "starting", "running")}}
	up := sight{service: replicated(1), tasks: runningTasks(1)}
	code := func(err error) int {
		if exit, ok := errors.AsType[*exitError](err); ok {
			return exit.code
		}
		return 0
	}
	t.Run("until converged", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out, took, err := followed(t.Context(), waitFlags{}, &script{sights: []sight{starting, starting, up}})
			want := "overall progress: 0 out of 1 tasks\n1/1: starting\noverall progress: 1 out of 1 tasks\n1/1: running\nverify: Waiting 5 seconds to verify that tasks are stable...\nverify: Service s1 converged\n"
			if err != nil || out != want || took != 5400*time.Millisecond {
				t.Errorf("err %v after %s, printed:\n%s", err, took, out)
			}
		})
	})
	t.Run("until the timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, took, err := followed(t.Context(), waitFlags{timeout: 30 * time.Second}, &script{sights: []sight{starting}})
			if code(err) != codeTimeout || took != 30*time.Second || !strings.Contains(err.Error(), "service web has not converged within --wait-timeout 30s (overall progress: 0 out of 1 tasks)") {
				t.Errorf("after %s: %v", took, err)
			}
		})
	})
	t.Run("until Ctrl-C", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			out, took, err := followed(ctx, waitFlags{timeout: time.Hour}, &script{sights: []sight{starting}})
			if code(err) != codeInterrupted || took != time.Second || !strings.Contains(out, "Operation continuing in background.\nUse `shoal service ps web` to check progress, `shoal why web` to see what it waits for.\n") {
				t.Errorf("after %s: %v\n%s", took, err, out)
			}
		})
	})
	t.Run("a removed service is an error at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, took, err := followed(t.Context(), waitFlags{}, &script{err: errdefs.ErrNotFound})
			if !errdefs.IsNotFound(err) || took != 0 {
				t.Errorf("after %s: %v", took, err)
			}
		})
	})
	t.Run("a manager that is away is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			from := &script{err: errdefs.ErrUnavailable, until: time.Now().Add(10 * time.Second), sights: []sight{up}}
			if _, took, err := followed(t.Context(), waitFlags{}, from); err != nil || took < 15*time.Second {
				t.Errorf("after %s: %v", took, err)
			}
			if _, took, err := followed(t.Context(), waitFlags{}, &script{err: errdefs.ErrUnavailable}); !errdefs.IsUnavailable(err) || took > 16*time.Second {
				t.Errorf("away for good: after %s: %v", took, err)
			}
		})
	})
	t.Run("a paused update fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			paused := starting
			paused.service.UpdateStatus = &swarm.UpdateStatus{State: "paused", Message: "because"}
			if _, _, err := followed(t.Context(), waitFlags{}, &script{sights: []sight{starting, paused}}); err == nil || err.Error() != "service update paused: because; see 'shoal why web'" {
				t.Errorf("got %v", err)
			}
		})
	})
}

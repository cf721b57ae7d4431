package restart

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

func now() time.Time { return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC) }

func policy(condition swarm.RestartPolicyCondition, attempts uint64, delay, window time.Duration) *swarm.RestartPolicy {
	return &swarm.RestartPolicy{Condition: condition, MaxAttempts: &attempts, Delay: &delay, Window: &window}
}

// task is one that ended in s just now, having been let go ran ago.
func task(s taskstate.State, ran time.Duration, restarts state.Restarts) *state.Task {
	t := &state.Task{ID: "t", Revision: 1, Desired: taskstate.Running, Restarts: restarts}
	t.Status = taskstate.Status{State: s, Err: "task: non-zero exit (1)"}
	t.CreatedAt, t.StartAfter, t.UpdatedAt = now().Add(-time.Hour), now().Add(-ran), now()
	return t
}

func ago(ds ...time.Duration) (times []time.Time) {
	for _, d := range ds {
		times = append(times, now().Add(-d))
	}
	return times
}

func TestWanted(t *testing.T) {
	const anyEnd, failure, none = swarm.RestartPolicyConditionAny, swarm.RestartPolicyConditionOnFailure, swarm.RestartPolicyConditionNone
	for name, c := range map[string]struct {
		policy *swarm.RestartPolicy
		task   *state.Task
		want   bool
	}{
		"no policy, failed":                {nil, task(taskstate.Failed, time.Hour, state.Restarts{Count: 99}), true},
		"no policy, complete":              {nil, task(taskstate.Complete, time.Hour, state.Restarts{}), true},
		"empty condition is any":           {policy("", 0, 0, 0), task(taskstate.Complete, 0, state.Restarts{}), true},
		"any, complete":                    {policy(anyEnd, 0, 0, 0), task(taskstate.Complete, 0, state.Restarts{}), true},
		"on-failure, failed":               {policy(failure, 0, 0, 0), task(taskstate.Failed, 0, state.Restarts{}), true},
		"on-failure, rejected":             {policy(failure, 0, 0, 0), task(taskstate.Rejected, 0, state.Restarts{}), true},
		"on-failure, complete":             {policy(failure, 0, 0, 0), task(taskstate.Complete, 0, state.Restarts{}), false},
		"on-failure, stopped":              {policy(failure, 0, 0, 0), task(taskstate.Shutdown, 0, state.Restarts{}), true},
		"none, failed":                     {policy(none, 0, 0, 0), task(taskstate.Failed, 0, state.Restarts{}), false},
		"none, lost its node":              {policy(none, 0, 0, 0), task(taskstate.Running, 0, state.Restarts{}), false},
		"attempts left":                    {policy(anyEnd, 3, 0, 0), task(taskstate.Failed, 0, state.Restarts{Count: 2}), true},
		"attempts used up":                 {policy(anyEnd, 3, 0, 0), task(taskstate.Failed, 0, state.Restarts{Count: 3}), false},
		"used up, but it lost its node":    {policy(anyEnd, 3, 0, 0), task(taskstate.Running, 0, state.Restarts{Count: 3}), true},
		"used up, all inside the window":   {policy(anyEnd, 2, 0, time.Minute), task(taskstate.Failed, 0, state.Restarts{Count: 9, Recent: ago(50*time.Second, 20*time.Second)}), false},
		"used up, one outside the window":  {policy(anyEnd, 2, 0, time.Minute), task(taskstate.Failed, 0, state.Restarts{Count: 9, Recent: ago(70*time.Second, 20*time.Second)}), true},
		"window counts restarts, not runs": {policy(anyEnd, 1, 0, time.Minute), task(taskstate.Failed, 0, state.Restarts{}), true},
	} {
		if got := Wanted(c.policy, c.task); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestNoLaterRetryWhenWindowHasPassed(t *testing.T) {
	p := policy("any", 1, 0, time.Minute)
	ended := task(taskstate.Failed, 0, state.Restarts{Count: 1, Recent: ago(30 * time.Second)})
	if d := Next(p, ended, 1, now()); d.Restart {
		t.Fatalf("restarted beyond MaxAttempts: %+v", d)
	}
	if d := Next(p, ended, 1, now().Add(time.Hour)); d.Restart {
		t.Errorf("restarted an hour later: %+v", d)
	}
}

func TestNextCountsAndDelays(t *testing.T) {
	zero := time.Duration(0)
	for name, c := range map[string]struct {
		policy   *swarm.RestartPolicy
		task     *state.Task
		revision uint64
		delay    time.Duration
		want     state.Restarts
	}{
		"default delay":                       {nil, task(taskstate.Failed, time.Minute, state.Restarts{}), 1, 5 * time.Second, state.Restarts{Count: 1}},
		"a first quick failure waits once":    {nil, task(taskstate.Failed, time.Second, state.Restarts{}), 1, 5 * time.Second, state.Restarts{Count: 1, Quick: 1}},
		"the next one twice as long":          {nil, task(taskstate.Failed, time.Second, state.Restarts{Count: 1, Quick: 1}), 1, 10 * time.Second, state.Restarts{Count: 2, Quick: 2}},
		"rejected is quick":                   {nil, task(taskstate.Rejected, time.Hour, state.Restarts{Count: 3, Quick: 3}), 1, 40 * time.Second, state.Restarts{Count: 4, Quick: 4}},
		"no more than five minutes":           {nil, task(taskstate.Rejected, time.Hour, state.Restarts{Count: 80, Quick: 80}), 1, 5 * time.Minute, state.Restarts{Count: 81, Quick: 81}},
		"but never less than the policy's":    {policy("any", 0, time.Hour, 0), task(taskstate.Rejected, 0, state.Restarts{Quick: 5}), 1, time.Hour, state.Restarts{Count: 1, Quick: 6}},
		"a run of ten seconds resets":         {nil, task(taskstate.Failed, 10*time.Second, state.Restarts{Count: 7, Quick: 7}), 1, 5 * time.Second, state.Restarts{Count: 8}},
		"success is no crash":                 {nil, task(taskstate.Complete, time.Second, state.Restarts{Count: 7, Quick: 7}), 1, 5 * time.Second, state.Restarts{Count: 8}},
		"delay zero, first":                   {&swarm.RestartPolicy{Delay: &zero}, task(taskstate.Failed, 0, state.Restarts{}), 1, 0, state.Restarts{Count: 1, Quick: 1}},
		"delay zero grows from half a second": {&swarm.RestartPolicy{Delay: &zero}, task(taskstate.Failed, 0, state.Restarts{Quick: 1}), 1, time.Second, state.Restarts{Count: 1, Quick: 2}},
		"another revision starts afresh":      {nil, task(taskstate.Rejected, 0, state.Restarts{Count: 7, Quick: 7}), 2, 5 * time.Second, state.Restarts{Count: 1, Quick: 1}},
		"the window forgets":                  {policy("any", 9, time.Second, time.Minute), task(taskstate.Failed, time.Hour, state.Restarts{Count: 2, Recent: ago(2*time.Minute, time.Second)}), 1, time.Second, state.Restarts{Count: 3, Recent: ago(time.Second, 0)}},
	} {
		got := Next(c.policy, c.task, c.revision, now())
		if !got.Restart || got.StartAfter.Sub(now()) != c.delay {
			t.Errorf("%s: restart %v in %v, want in %v", name, got.Restart, got.StartAfter.Sub(now()), c.delay)
		}
		if diff := cmp.Diff(c.want, got.Restarts); diff != "" {
			t.Errorf("%s: restarts (-want +got):\n%s", name, diff)
		}
	}
}

func TestTaskThatEndsDuringItsDelayHasServedIt(t *testing.T) {
	ended := task(taskstate.Rejected, -time.Minute, state.Restarts{Count: 1, Quick: 1})
	ended.Desired = taskstate.Ready
	if !Early(ended) {
		t.Error("a task that was rejected a minute before it could start is not early")
	}
	later := ended.StartAfter
	if d := Next(nil, ended, 1, later); d.StartAfter != later || d.Restarts.Quick != 2 {
		t.Errorf("the successor waits %v more, after %d quick failures", d.StartAfter.Sub(later), d.Restarts.Quick)
	}
	for name, change := range map[string]func(*state.Task){
		"let go":               func(t *state.Task) { t.Desired = taskstate.Running },
		"still preparing":      func(t *state.Task) { t.Status.State = taskstate.Preparing },
		"ended after its time": func(t *state.Task) { t.StartAfter = t.UpdatedAt.Add(-time.Second) },
	} {
		other := *ended
		change(&other)
		if Early(&other) {
			t.Errorf("a task that is %s counts as early", name)
		}
	}
}

func TestReasonTellsCountWaitAndCause(t *testing.T) {
	failed := task(taskstate.Failed, 0, state.Restarts{Count: 3, Quick: 3})
	if got, want := Next(nil, failed, 1, now()).Reason, "restart 4 in 40s: task: non-zero exit (1)"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	failed.Status = taskstate.Status{State: taskstate.Complete, Message: "finished"}
	if got, want := Next(nil, failed, 1, now()).Reason, "restart 4 in 5s: finished"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
}

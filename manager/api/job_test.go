package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func jobSpec(mode swarm.ServiceMode) swarm.ServiceSpec {
	spec := webSpec("job", 1)
	spec.Mode = mode
	return spec
}

// run is a task of a job's run.
func run(h *harness, id string, iteration uint64, slot int, s, desired taskstate.State) {
	h.store.Put(statetest.Task(id, h.service("job").ID, slot, "n1", statetest.Observed(s), statetest.Desired(desired), func(t *state.Task) {
		t.JobIteration = &swarm.Version{Index: iteration}
	}))
}

func TestJobIsFilledInAndCounted(t *testing.T) {
	h := newHarness(t, statetest.Node("n1"))
	mode := swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: new(uint64(3))}}
	if code, body := h.call("POST", "/services/create", jobSpec(mode)); code != http.StatusCreated {
		t.Fatalf("create: %d %s", code, body)
	}
	s := h.service("job")
	if m := s.Spec.Mode.ReplicatedJob; *m.MaxConcurrent != 3 || *m.TotalCompletions != 3 || s.JobStatus == nil || s.JobStatus.LastExecution.IsZero() {
		t.Errorf("created: %+v, job status %+v", m, s.JobStatus)
	}
	run(h, "t0", 0, 0, taskstate.Complete, taskstate.Complete)
	run(h, "t1", 0, 1, taskstate.Running, taskstate.Complete)
	run(h, "t2", 0, 2, taskstate.Failed, taskstate.Shutdown)
	if _, body := h.call("GET", "/services?status=true", nil); !strings.Contains(body, `"ServiceStatus":{"RunningTasks":1,"DesiredTasks":3,"CompletedTasks":1}`) {
		t.Errorf("status: %s", body)
	}
	if _, body := h.call("GET", "/tasks/t1", nil); !strings.Contains(body, `"JobIteration":{}`) && !strings.Contains(body, `"JobIteration":{"Index":0}`) || !strings.Contains(body, `"DesiredState":"complete"`) {
		t.Errorf("task: %s", body)
	}
	if _, body := h.call("GET", "/shoal/v1/why/job", nil); !strings.Contains(body, "1 of 3 complete, 1 running") {
		t.Errorf("why: %s", body)
	}
	if code, body := h.call("POST", "/shoal/v1/services/job/pause", nil); code != http.StatusBadRequest || !strings.Contains(body, "is a job") {
		t.Errorf("pause: %d %s", code, body)
	}
}

// Every update runs a job again, whatever it changes.
func TestEveryUpdateRunsAJobAgain(t *testing.T) {
	h := newHarness(t, statetest.Node("n1"))
	mode := swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: new(uint64(1)), TotalCompletions: new(uint64(2))}}
	if code, body := h.call("POST", "/services/create", jobSpec(mode)); code != http.StatusCreated {
		t.Fatalf("create: %d %s", code, body)
	}
	run(h, "t0", 0, 0, taskstate.Complete, taskstate.Complete)
	for i := uint64(1); i <= 2; i++ { // the same spec twice
		last := h.service("job").JobStatus.LastExecution
		h.repost(jobSpec(mode))
		s := h.service("job")
		if s.JobStatus.JobIteration.Index != i || !s.JobStatus.LastExecution.After(last) || s.UpdateStatus != nil {
			t.Errorf("update %d: job status %+v, update status %+v", i, s.JobStatus, s.UpdateStatus)
		}
	}
	if _, body := h.call("GET", "/services?status=true", nil); !strings.Contains(body, `"CompletedTasks":0`) {
		t.Errorf("an earlier run counts: %s", body)
	}
	path := fmt.Sprintf("/services/job/update?version=%d&rollback=previous", h.service("job").Version.Index)
	if code, body := h.call("POST", path, jobSpec(mode)); code != http.StatusOK {
		t.Errorf("rollback: %d %s", code, body)
	}
	if s := h.service("job"); s.JobStatus.JobIteration.Index != 3 || s.UpdateStatus != nil {
		t.Errorf("rollback: job status %+v, update status %+v", s.JobStatus, s.UpdateStatus)
	}
	if code, body := h.call("POST", fmt.Sprintf("/services/job/update?version=%d", h.service("job").Version.Index), jobSpec(swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}})); code != http.StatusNotImplemented {
		t.Errorf("another mode: %d %s", code, body)
	}
}

func TestGlobalJobIsCounted(t *testing.T) {
	h := newHarness(t, statetest.Node("n1"))
	if code, body := h.call("POST", "/services/create", jobSpec(swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}})); code != http.StatusCreated {
		t.Fatalf("create: %d %s", code, body)
	}
	run(h, "t0", 0, 0, taskstate.Complete, taskstate.Complete)
	if _, body := h.call("GET", "/shoal/v1/why/job", nil); !strings.Contains(body, "the job is complete") {
		t.Errorf("why: %s", body)
	}
	run(h, "t1", 0, 0, taskstate.Running, taskstate.Complete)
	run(h, "t2", 0, 0, taskstate.Preparing, taskstate.Complete)
	if _, body := h.call("GET", "/services?status=true&filters={%22mode%22:[%22global-job%22]}", nil); !strings.Contains(body, `"ServiceStatus":{"RunningTasks":1,"DesiredTasks":2,"CompletedTasks":1}`) {
		t.Errorf("status: %s", body)
	}
}

func TestWhyOfAJobThatMayNotRun(t *testing.T) {
	h := newHarness(t, statetest.Node("n1"))
	mode := swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: new(uint64(0)), TotalCompletions: new(uint64(2))}}
	if code, body := h.call("POST", "/services/create", jobSpec(mode)); code != http.StatusCreated {
		t.Fatalf("create: %d %s", code, body)
	}
	if got := h.why("job"); !strings.Contains(got.Cause, "none of its tasks may run") || got.Fix != "docker service update --max-concurrent 1 job" {
		t.Errorf("%+v", got)
	}
}

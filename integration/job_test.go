package integration

import (
	"fmt"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// A job on a cluster: all runs end, it is counted, and an update runs it again.
func TestAJobRunsToItsEndAndAgain(t *testing.T) {
	c := form(t, 1, 2)
	api := c.machines[0].api
	concurrent, total := uint64(2), uint64(5)
	job := spec("job", 0, "exit", "0")
	job.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &concurrent, TotalCompletions: &total}}
	create(t, api, job)
	awaitJob(t, api, "job", 0, 5)

	everywhere := spec("all", 0, "exit", "0")
	everywhere.Mode = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}
	create(t, api, everywhere)
	awaitJob(t, api, "all", 0, 3)

	update(t, api, "job", func(s *swarm.ServiceSpec) { s.TaskTemplate.ForceUpdate++ })
	awaitJob(t, api, "job", 1, 5)
	if err := api.ServiceRemove(t.Context(), "job"); err != nil {
		t.Fatal(err)
	}
	if err := api.ServiceRemove(t.Context(), "all"); err != nil {
		t.Fatal(err)
	}
	c.awaitNoContainers()
}

// awaitJob waits until a job's run is complete, as its status and its tasks say.
func awaitJob(t *testing.T, api *client.Client, name string, run uint64, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d tasks of run %d of %s complete", n, run, name), func() (string, bool) {
		f := filters.NewArgs(filters.Arg("name", name))
		services, err := api.ServiceList(t.Context(), swarm.ServiceListOptions{Filters: f, Status: true})
		if err != nil || len(services) != 1 {
			return fmt.Sprintf("%d services, error %v", len(services), err), false
		}
		tasks, err := api.TaskList(t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", name))})
		if err != nil {
			return err.Error(), false
		}
		complete := 0
		for _, task := range tasks {
			if task.JobIteration != nil && task.JobIteration.Index == run && task.Status.State == swarm.TaskStateComplete {
				complete++
			}
		}
		s := services[0]
		return fmt.Sprintf("%d of %d tasks complete; status %+v, job status %+v", complete, len(tasks), s.ServiceStatus, s.JobStatus),
			complete == n && len(tasks) == n && s.ServiceStatus.CompletedTasks == uint64(n) && s.JobStatus.JobIteration.Index == run //nolint:gosec // small
	})
}

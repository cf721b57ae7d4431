package format

import (
	"bytes"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

func history(now time.Time) History {
	spec := func(image string, env ...string) swarm.ServiceSpec {
		s := swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: image, Env: env}}}
		s.Name, s.Mode.Replicated = "web", &swarm.ReplicatedService{Replicas: new(uint64(3))}
		return s
	}
	ported := spec("nginx:2", "A=1", "B=3")
	ported.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080}}}
	ported.UpdateConfig = &swarm.UpdateConfig{Parallelism: 2}
	ported.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 64 << 20}}
	return History{Name: "web", Revisions: []Revision{
		{Number: 4, CreatedAt: now.Add(-time.Minute), Current: true, RollbackTo: 1, Tasks: 1, Spec: spec("nginx:1", "A=1", "B=2")},
		{Number: 3, CreatedAt: now.Add(-time.Hour), Previous: true, Tasks: 2, Spec: ported},
		{Number: 2, CreatedAt: now.Add(-2 * time.Hour), Spec: spec("nginx:2", "A=1", "B=2")},
		{Number: 1, CreatedAt: now.Add(-3 * time.Hour), Spec: spec("nginx:1", "A=1", "B=2")},
	}}
}

func TestHistory(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	rows := RevisionRows(history(now), now)
	for _, form := range []string{"", "json", "table {{.ID}} {{.CreatedAt}}"} {
		if err := Write(&out, RevisionTable(), form, false, rows); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "history", out.String())
}

func TestDiff(t *testing.T) {
	h := history(time.Now())
	var out bytes.Buffer
	for _, pair := range [][2]int{{2, 1}, {3, 0}, {1, 2}} {
		if err := WriteDiff(&out, "web", h.Revisions[pair[0]], h.Revisions[pair[1]]); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "diff", out.String())
}

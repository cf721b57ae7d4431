package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// TestManyNodesPullInTurns has ten nodes, whose sessions are with three
// managers, pull one image that takes half a second.
func TestManyNodesPullInTurns(t *testing.T) {
	const first, ref = 4, "reg.example/app:1" // as many nodes as begin
	c := form(t, 3, 7)
	for _, m := range c.machines {
		m.engine.Publish(ref)
		m.engine.Delay("Pull", 500*time.Millisecond)
	}
	create(t, c.machines[1].api, swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: "app"},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: ref}},
		Mode:         swarm.ServiceMode{Global: &swarm.GlobalService{}},
	})
	most := 0
	waitFor(t, "all nodes to have the image", func() (string, bool) {
		began, done := 0, 0
		for _, m := range c.machines {
			began += m.engine.Calls("Pull")
		}
		for _, m := range c.machines { // later, so that what ends meanwhile counts
			if _, err := m.engine.Image(t.Context(), ref); err == nil {
				done++
			}
		}
		most = max(most, began-done)
		if began-done > first+done {
			t.Errorf("%d nodes pull while %d have the image", began-done, done)
		}
		return fmt.Sprintf("%d pulls, %d nodes have it", began, done), done == len(c.machines)
	})
	c.converged(c.machines[0], "app", len(c.machines))
	pulls := 0
	for _, m := range c.machines {
		pulls += m.engine.Calls("Pull")
	}
	if pulls != len(c.machines) || most == 0 {
		t.Errorf("%d pulls by %d nodes, %d at once", pulls, len(c.machines), most)
	}
}

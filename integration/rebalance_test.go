package integration

import (
	"fmt"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// A node that joins, and one that is made active again, gets its share of the
// tasks: by itself, or when somebody says so. On the way there are never fewer
// containers than asked for. Docker's client, in between, loses no setting.
func TestNodesThatComeGetTheirShare(t *testing.T) {
	c := newCluster(t, 3)
	via, late := c.machines[0], c.machines[2]
	via.init()
	c.machines[1].join(via, swarm.NodeRoleWorker)
	c.awaitNodes(via, 1, 1)
	type spoken struct {
		swarm.ServiceSpec
		Rebalance state.Rebalance
	}
	via.post("/services/create", spoken{spec("web", 4, "serve"), state.RebalanceAuto})
	c.converged(via, "web", 4)
	update(t, via.api, "web", func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "b"} })
	even := func(when string) {
		t.Helper()
		waitFor(t, when, func() (string, bool) {
			var counts []int
			for _, m := range c.machines {
				counts = append(counts, len(m.running()))
			}
			if all := len(c.containers("web")); all < 4 {
				t.Fatalf("%s: %d containers", when, all)
			}
			slices.Sort(counts)
			return fmt.Sprint(counts), slices.Equal(counts, []int{1, 1, 2})
		})
		c.converged(via, "web", 4)
	}

	late.join(via, swarm.NodeRoleWorker)
	even("the node that joined has a task")

	s, _, err := via.api.ServiceInspectWithRaw(t.Context(), "web", swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	via.post(fmt.Sprintf("/services/%s/update?version=%d", s.ID, s.Version.Index), spoken{s.Spec, state.RebalanceOff})
	setAvailability(t, via.api, late.id(), swarm.NodeAvailabilityDrain)
	waitFor(t, "an empty node", func() (string, bool) { n := len(late.running()); return fmt.Sprint(n), n == 0 })
	c.converged(via, "web", 4)
	setAvailability(t, via.api, late.id(), swarm.NodeAvailabilityActive)
	via.post("/shoal/v1/services/web/rebalance", struct{}{})
	even("the node that is active again has a task")
}

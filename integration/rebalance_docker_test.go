//go:build docker

package integration

import (
	"fmt"
	"testing"

	"github.com/docker/docker/api/types/swarm"
)

// A host that is made active again gets a task of a service that is rebalanced,
// and no request is lost on the way.
func TestRebalancingDropsNothing(t *testing.T) {
	campaign(t)
	s := formSite(t, 3, 1)
	via, idle := s.Host(1), s.Host(3)
	shoal(t, via, "network", "create", "front")
	id := s.nodeID(t, idle)
	setAvailability(t, s.shoal[via], id, swarm.NodeAvailabilityDrain)
	create(t, s.shoal[via], webSpec(t, s, lossless, 4, "front"))
	s.converged(t, via, lossless, 4)
	shoal(t, via, "service", "update", "--detach", "--rebalance", "auto", lossless)
	end := s.asked(t, 200)
	setAvailability(t, s.shoal[via], id, swarm.NodeAvailabilityActive)
	waitFor(t, "a task on "+idle.Name, func() (string, bool) {
		ids, err := s.running(t, lossless, idle)
		return fmt.Sprint(ids, err), err == nil && len(ids) == 1
	})
	s.converged(t, via, lossless, 4)
	r := end()
	t.Log(told(r))
	flawless(t, s, r)
}

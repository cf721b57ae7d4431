package api

import (
	"fmt"

	"shoal/manager/allocator"
	"shoal/raftstore/state"
)

// explainNew says what a task waits for that has no addresses yet.
func explainNew(v *state.View, t *state.Task, why *finding) {
	if t.Status.Message != allocator.MessageWaiting {
		why.Cause = "it has just been created and waits to be handed to the scheduler"
		return
	}
	why.Cause = "it cannot be given what it needs: " + t.Status.Err
	r := v.Revision(t.ServiceID, t.Revision)
	if r == nil {
		return
	}
	for _, id := range state.OverlaysOf(&r.Spec) {
		n := v.Network(id)
		if n == nil {
			why.Evidence = append(why.Evidence, "network "+id+" has been removed")
			why.fix("docker service update --network-rm " + id + " " + r.Spec.Name)
			continue
		}
		all, free := allocator.Room(v, n)
		why.Evidence = append(why.Evidence, fmt.Sprintf("network %s has %d addresses, %d of them free", n.Spec.Name, all, free))
		if free == 0 && len(why.Fixes) == 0 {
			why.fix("scale down what is on network " + n.Spec.Name + ", or move services to a network with a larger subnet: docker network create -d overlay --subnet …, then docker service update --network-add")
		}
	}
	s := v.Service(t.ServiceID)
	if s == nil || s.Revision != t.Revision || len(why.Fixes) > 0 {
		return
	}
	if _, err := allocator.Endpoint(v, s); err != nil {
		why.fix("change what the service publishes: docker service update --publish-rm … --publish-add … " + s.Spec.Name)
	}
}

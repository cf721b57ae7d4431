package manager

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore"
	"shoal/raftstore/state"
)

// membershipEvery is how often the leader looks at managers that are catching
// up: soon enough for a user who waits for a join.
const membershipEvery = 200 * time.Millisecond

// membership keeps the members of the consensus equal to the nodes whose role
// is manager: new ones join without a vote and get one when they have caught
// up, others are removed where that leaves a healthy majority.
func (m *Manager) membership(ctx context.Context) error {
	tick := time.NewTicker(membershipEvery)
	defer tick.Stop()
	said := map[memberStep]string{} // what was last logged of a step
	for {
		changed := m.store.Changed()
		steps := planMembership(m.store.View(), m.store.Peers(), m.nodeID)
		for _, step := range steps {
			err := m.takeStep(ctx, step)
			if ctx.Err() != nil || errors.Is(err, raftstore.ErrNotLeader) {
				return err
			}
			m.logStep(step, err, said)
		}
		wait := tick.C
		if len(steps) == 0 {
			wait = nil
		}
		select {
		case <-changed:
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// logStep logs a step that was taken, and why one cannot be: once for a reason.
// One that has to wait for its node to catch up is nothing to tell.
func (m *Manager) logStep(step memberStep, err error, said map[memberStep]string) {
	if err == nil {
		delete(said, step)
		m.log.Info("managers changed", "step", step.what, "node", step.nodeID)
		return
	}
	if errdefs.IsUnavailable(err) || said[step] == err.Error() {
		return
	}
	said[step] = err.Error()
	m.log.Warn("managers cannot be changed yet", "step", step.what, "node", step.nodeID, "error", err)
}

// memberStep is one change of the consensus' members.
type memberStep struct {
	what         string // add, promote, remove or transfer
	nodeID, addr string
}

// planMembership says what to change, removals last: they need the others.
func planMembership(v *state.View, peers []raftstore.Peer, self string) (steps []memberStep) {
	if v.Cluster() == nil {
		return nil
	}
	members := map[string]raftstore.Peer{}
	for _, p := range peers {
		members[p.ID] = p
	}
	for n := range v.Nodes() {
		p, isMember := members[n.ID]
		switch {
		case n.Spec.Role != swarm.NodeRoleManager || n.Addr == "":
		case !isMember || p.Addr != n.Addr:
			steps = append(steps, memberStep{"add", n.ID, n.Addr})
		case !p.Voter:
			steps = append(steps, memberStep{"promote", n.ID, n.Addr})
		}
	}
	for _, p := range peers {
		n := v.Node(p.ID)
		if n != nil && n.Spec.Role == swarm.NodeRoleManager {
			continue
		}
		if p.ID == self {
			steps = append(steps, memberStep{"transfer", p.ID, p.Addr})
		} else {
			steps = append(steps, memberStep{"remove", p.ID, p.Addr})
		}
	}
	return steps
}

func (m *Manager) takeStep(ctx context.Context, s memberStep) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch s.what {
	case "add":
		return m.store.AddNonvoter(ctx, s.nodeID, s.addr)
	case "promote":
		return m.store.Promote(ctx, s.nodeID)
	case "remove":
		return m.store.RemovePeer(ctx, s.nodeID)
	default: // a leader that is to go steps aside first
		return m.store.TransferLeadership(ctx)
	}
}

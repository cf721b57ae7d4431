package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// Whatever happens to a cluster, its managers end with the same state, and
// that state holds what was confirmed. The managers keep their log and
// snapshots on disk, small ones, so that snapshots are sent and logs cut.
func TestReplicasEndEqual(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			dir := fmt.Sprintf("%s/%d", root, rand.Uint64())
			c := newCluster(t, 3, func(cfg *Config) {
				cfg.Dir, cfg.TrailingEntries = dir, 4
			})
			defer c.close()
			m := &model{c: c, confirmed: map[string]string{}}
			for range rapid.IntRange(5, 25).Draw(t, "steps") {
				m.step(t)
			}
			m.check(t)
		})
	})
}

type model struct {
	c         *cluster
	confirmed map[string]string // node id to label; "" deleted; "?" unknown
	cut       string
}

func (m *model) step(t *rapid.T) {
	id := rapid.SampledFrom(m.c.ids).Draw(t, "manager")
	switch rapid.SampledFrom([]string{"put", "put", "put", "delete", "cut", "heal", "snapshot", "restart", "transfer", "wait"}).Draw(t, "step") {
	case "put":
		for range rapid.IntRange(1, 10).Draw(t, "updates") {
			m.update(t, fmt.Sprint("x", rapid.IntRange(0, 9).Draw(t, "node")), fmt.Sprint("v", rapid.IntRange(0, 99).Draw(t, "value")))
		}
	case "delete":
		m.update(t, fmt.Sprint("x", rapid.IntRange(0, 9).Draw(t, "node")), "")
	case "cut":
		if m.cut == "" {
			m.cut = id
			m.c.cut(id)
		}
	case "heal":
		m.heal()
	case "snapshot":
		m.c.stores[id].raft.Load().Snapshot().Error() // there may be nothing new
	case "restart":
		if m.cut == "" {
			must(t, m.c.stores[id].Close())
			m.c.open(id)
		}
	case "transfer":
		if m.cut == "" {
			m.c.leader().TransferLeadership(t.Context())
		}
	case "wait":
		time.Sleep(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond) // virtual: in a bubble
	}
}

func (m *model) heal() {
	if m.cut != "" {
		m.c.heal(m.cut)
		m.cut = ""
	}
}

func (m *model) update(t *rapid.T, node, value string) {
	err := m.c.updateAnywhere(t.Context(), func(*state.View) ([]state.Change, error) {
		if value == "" {
			return []state.Change{state.Delete(state.KindNode, node)}, nil
		}
		return []state.Change{state.Put(statetest.Node(node, statetest.Label("v", value)))}, nil
	})
	switch {
	case err == nil:
		m.confirmed[node] = value
	case errors.Is(err, ErrOutcomeUnknown):
		m.confirmed[node] = "?"
	default:
		t.Errorf("Update = %v", err)
	}
}

func (m *model) check(t *rapid.T) {
	m.heal()
	must(t, m.c.updateAnywhere(t.Context(), put("end")))
	v := m.c.settled()
	for id, want := range m.confirmed {
		got := ""
		if n := v.Node(id); n != nil {
			got = n.Spec.Labels["v"]
		}
		if want != "?" && got != want {
			t.Errorf("node %s has %q, confirmed was %q", id, got, want)
		}
	}
}

package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func testKey() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// tester is what testing.TB and rapid.T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Context() context.Context
}

// cluster is some stores on an in-memory network.
type cluster struct {
	t      tester
	cfg    func(id string) Config
	stores map[string]*Store
	wires  map[string]*raft.InmemTransport
	ids    []string
}

// newCluster forms a cluster of n managers, n1 first. Run it in a bubble.
func newCluster(t tester, n int, options ...func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, stores: map[string]*Store{}, wires: map[string]*raft.InmemTransport{}}
	c.cfg = func(id string) Config {
		cfg := Config{NodeID: id, Addr: id + ":2377", Key: testKey(), Log: testLog(), InMemory: true}
		for _, o := range options {
			o(&cfg)
		}
		return cfg
	}
	for i := range n {
		id := "n" + strconv.Itoa(i+1)
		c.open(id)
		if i == 0 {
			must(t, c.stores[id].Bootstrap(t.Context()))
			continue
		}
		lead := c.leader()
		must(t, lead.AddNonvoter(t.Context(), id, id+":2377"))
		c.until("n%d caught up", i+1)(func() bool { return lead.Promote(t.Context(), id) == nil })
	}
	return c
}

func testLog() *slog.Logger {
	if os.Getenv("RAFTSTORE_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// open starts the store of a manager.
func (c *cluster) open(id string) *Store {
	c.t.Helper()
	_, wire := raft.NewInmemTransport(raft.ServerAddress(id + ":2377"))
	cfg := c.cfg(id)
	cfg.Transport = wire
	if cfg.Dir != "" {
		cfg.Dir, cfg.InMemory = filepath.Join(cfg.Dir, id), false
	}
	s, err := Open(cfg)
	must(c.t, err)
	if c.stores[id] == nil {
		c.ids = append(c.ids, id)
	}
	c.stores[id], c.wires[id] = s, wire
	c.heal(id)
	return s
}

func (c *cluster) close() {
	for _, id := range c.ids {
		if err := c.stores[id].Close(); err != nil {
			c.t.Errorf("close %s: %v", id, err)
		}
	}
}

// cut separates a manager from all others, heal joins it to all.
func (c *cluster) cut(id string) {
	c.wires[id].DisconnectAll()
	for other, w := range c.wires {
		if other != id {
			w.Disconnect(raft.ServerAddress(id + ":2377"))
		}
	}
}

func (c *cluster) heal(id string) {
	for other, w := range c.wires {
		if other != id {
			w.Connect(raft.ServerAddress(id+":2377"), c.wires[id])
			c.wires[id].Connect(raft.ServerAddress(other+":2377"), w)
		}
	}
}

// until waits for a condition, with a limit of a virtual minute.
func (c *cluster) until(what string, args ...any) func(func() bool) {
	return func(cond func() bool) {
		c.t.Helper()
		for range 6000 {
			if cond() {
				return
			}
			time.Sleep(10 * time.Millisecond) // virtual
		}
		c.t.Fatalf("never: "+what, args...)
	}
}

// leader waits for the one manager that leads and that is none of except.
func (c *cluster) leader(except ...string) (lead *Store) {
	c.t.Helper()
	c.until("a leader other than %v", except)(func() bool {
		lead = nil
		newest := uint64(0) // an old leader may not know yet that it is none
		for _, id := range c.ids {
			if t, _ := c.stores[id].term.get(); t != nil && t.number > newest && !slices.Contains(except, id) {
				lead, newest = c.stores[id], t.number
			}
		}
		return lead != nil
	})
	return lead
}

// settled waits until all managers hold the same state and returns it.
func (c *cluster) settled() *state.View {
	c.t.Helper()
	c.until("all managers have the same state")(func() bool {
		want := c.leader().View().Index()
		for _, s := range c.stores {
			if s.View().Index() != want {
				return false
			}
		}
		return true
	})
	first := c.stores[c.ids[0]].View()
	for _, id := range c.ids {
		if got, want := hash(c.t, c.stores[id].View()), hash(c.t, first); got != want {
			c.t.Fatalf("%s and %s have different states at index %d", c.ids[0], id, first.Index())
		}
	}
	return first
}

func hash(t tester, v *state.View) string {
	t.Helper()
	h, err := v.Hash()
	must(t, err)
	return h
}

func must(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put is a plan that puts a node.
func put(id string) Plan {
	return func(*state.View) ([]state.Change, error) {
		return []state.Change{state.Put(statetest.Node(id))}, nil
	}
}

var errTaken = errors.New("taken")

// create is a plan that puts a node that must not be there.
func create(id string) Plan {
	return func(v *state.View) ([]state.Change, error) {
		if v.Node(id) != nil {
			return nil, fmt.Errorf("%s: %w", id, errTaken)
		}
		return []state.Change{state.Put(statetest.Node(id))}, nil
	}
}

// count is a plan that adds one to a number kept in the state.
func count(v *state.View) ([]state.Change, error) {
	n := 0
	if node := v.Node("counter"); node != nil {
		var err error
		if n, err = strconv.Atoi(node.Spec.Labels["n"]); err != nil {
			return nil, err
		}
	}
	return []state.Change{state.Put(statetest.Node("counter", statetest.Label("n", strconv.Itoa(n+1))))}, nil
}

func counted(v *state.View) int {
	node := v.Node("counter")
	if node == nil {
		return 0
	}
	n, err := strconv.Atoi(node.Spec.Labels["n"])
	if err != nil {
		return -1
	}
	return n
}

// updateAnywhere does what a client does: it asks each manager until one that
// leads answers.
func (c *cluster) updateAnywhere(ctx context.Context, p Plan) error {
	for {
		for _, id := range c.ids {
			if err := c.stores[id].Update(ctx, p); !errors.Is(err, ErrNotLeader) {
				return err
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

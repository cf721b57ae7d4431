package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
	"go.uber.org/goleak"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engines tell what the test says.
type engines struct {
	mu    sync.Mutex
	lines map[string]*io.PipeWriter // by node
	asked []string
	down  map[string]bool
}

func (e *engines) open(ctx context.Context, nodeID string, query url.Values) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, nodeID+" "+query.Encode())
	if e.down[nodeID] {
		return nil, errors.New("it is down")
	}
	r, w := io.Pipe()
	e.lines[nodeID] = w
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	return r, nil
}

func (e *engines) tell(nodeID, container string, at int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = json.NewEncoder(e.lines[nodeID]).Encode(events.Message{Type: "container", Action: "start", TimeNano: at, Actor: events.Actor{ID: container}})
}

// heard are the events of a request that runs in a bubble.
type heard struct {
	mu     sync.Mutex
	events []string
	err    error
	ended  bool
}

func (h *heard) list() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.events))
}

func listen(ctx context.Context, store *statetest.Store, e *engines, query url.Values) *heard {
	h := &heard{}
	w := New(Config{Store: store, Open: e.open, Here: "n1"})
	go func() {
		h.err = w.Events(ctx, query, func(v any) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			m := v.(events.Message)
			h.events = append(h.events, fmt.Sprint(m.Actor.ID, " ", m.Actor.Attributes[NodeID], " ", m.Actor.Attributes[NodeName]))
			return nil
		})
		h.ended = true
	}()
	synctest.Wait()
	return h
}

func newEngines() *engines {
	return &engines{lines: map[string]*io.PipeWriter{}, down: map[string]bool{}}
}

func named(name string) func(*state.Node) {
	return func(n *state.Node) { n.Description.Hostname = name }
}

func TestEventsOfOtherNodesAndOfThoseThatCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, e := statetest.New(statetest.Node("n1"), statetest.Node("n2", named("h2"))), newEngines()
		ctx, cancel := context.WithCancel(t.Context())
		h := listen(ctx, store, e, url.Values{})
		e.tell("n2", "c1", 1)
		store.Put(statetest.Node("n3"))
		time.Sleep(2 * quiet) // virtual
		e.tell("n3", "c2", 1)
		if got, want := h.list(), []string{"c1 n2 h2", "c2 n3 n3"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		cancel()
		if synctest.Wait(); !h.ended || len(e.asked) != 2 {
			t.Errorf("ended %v, asked %q", h.ended, e.asked)
		}
	})
}

func TestEventsGoOnAfterANodeWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, e := statetest.New(statetest.Node("n2")), newEngines()
		ctx, cancel := context.WithCancel(t.Context())
		h := listen(ctx, store, e, url.Values{"since": {"5"}})
		e.tell("n2", "c1", time.Now().UnixNano()+7)
		synctest.Wait()
		e.mu.Lock()
		e.down["n2"] = true
		e.lines["n2"].CloseWithError(errors.New("lost"))
		e.mu.Unlock()
		time.Sleep(time.Minute) // virtual
		e.mu.Lock()
		e.down["n2"] = false
		e.mu.Unlock()
		time.Sleep(15 * time.Second) // virtual
		e.tell("n2", "c2", time.Now().UnixNano())
		if got := h.list(); len(got) != 2 {
			t.Errorf("%q", got)
		}
		if last := e.asked[len(e.asked)-1]; e.asked[0] != "n2 filters=&since=5" || last != "n2 filters=&since=946684800.000000008" {
			t.Errorf("asked %q", e.asked)
		}
		cancel()
		synctest.Wait()
	})
}

func TestEventsByFilter(t *testing.T) {
	for query, want := range map[string]string{
		`{"type":["service"]}`:                        "[]",
		`{"type":["container","service"]}`:            "[n2]",
		`{"scope":["swarm"]}`:                         "[]",
		`{"node":["h1"]}`:                             "[n1]",
		`{"node":["h"],"event":["start"]}`:            "[n1 n2]",
		`{"node":["n2"],"type":["node","container"]}`: "[n2]",
	} {
		synctest.Test(t, func(t *testing.T) {
			store, e := statetest.New(statetest.Node("n1", named("h1")), statetest.Node("n2", named("h2"))), newEngines()
			h := listen(t.Context(), store, e, url.Values{"filters": {query}, "until": {fmt.Sprint(time.Now().Add(time.Minute).Unix())}})
			if got := fmt.Sprint(nodesOf(e)); got != want {
				t.Errorf("%s: asked %s, want %s", query, got, want)
			}
			time.Sleep(2 * time.Minute) // virtual
			if synctest.Wait(); !h.ended || h.err != nil {
				t.Errorf("%s: ended %v, %v", query, h.ended, h.err)
			}
		})
	}
	w := New(Config{Store: statetest.New()})
	for _, query := range []url.Values{{"filters": {"x"}}, {"until": {"x"}}} {
		if err := w.Events(t.Context(), query, nil); err == nil {
			t.Errorf("%v is taken", query)
		}
	}
}

func nodesOf(e *engines) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	nodes := []string{}
	for n := range e.lines {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	return nodes
}

func TestEventsOfThePastWaitForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, e := statetest.New(statetest.Node("n2"), statetest.Node("n3")), newEngines()
		e.down["n3"] = true
		h := listen(t.Context(), store, e, url.Values{"since": {"1"}, "until": {"2"}})
		e.tell("n2", "c1", 1)
		e.lines["n2"].Close()
		if got := h.list(); len(got) != 1 || !h.ended || h.err != nil {
			t.Errorf("%q, ended %v, %v", got, h.ended, h.err)
		}
	})
}

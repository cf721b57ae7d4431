package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// follow runs an API and one reader of its events, and returns what the reader
// has seen. Call it in a bubble.
func follow(t *testing.T, store *statetest.Store, query url.Values) (seen *[]events.Message, done <-chan error) {
	t.Helper()
	a := watch(t, store)
	seen = new([]events.Message)
	result := make(chan error, 1)
	go func() {
		result <- a.Events(t.Context(), query, func(e any) error {
			*seen = append(*seen, e.(events.Message))
			return nil
		})
	}()
	synctest.Wait()
	return seen, result
}

// watch runs an API for as long as the test.
func watch(t *testing.T, store *statetest.Store) *api.API {
	t.Helper()
	a, err := api.New(api.Config{Store: store, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := a.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-stopped })
	synctest.Wait()
	return a
}

func text(m events.Message) string {
	s := fmt.Sprintf("%s %s %s", m.Type, m.Action, m.Actor.ID)
	for _, k := range []string{"name", "image.old", "image.new", "replicas.old", "replicas.new", "updatestate.old", "updatestate.new", "availability.old", "availability.new", "role.old", "role.new", "state.old", "state.new"} {
		if v, ok := m.Actor.Attributes[k]; ok {
			s += " " + k + "=" + v
		}
	}
	return s
}

func TestEventsTellWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(statetest.Node("n0"))
		seen, _ := follow(t, store, nil)

		web, revision := statetest.Service("web", 1)
		store.Put(web, revision, statetest.Task("t1", "web", 1, ""))
		node := statetest.Node("n1", hostname("one"))
		store.Put(node)

		bigger := *web
		bigger.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: new(uint64(3))}
		bigger.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Image: "web:2"}
		bigger.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating}
		store.Put(&bigger)
		done := bigger
		done.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateCompleted}
		store.Put(&done)

		drained := *node
		drained.Spec.Availability, drained.Spec.Role, drained.Status.State = swarm.NodeAvailabilityDrain, swarm.NodeRoleManager, swarm.NodeStateDown
		store.Put(&drained)
		store.Apply(state.Delete(state.KindService, "web"), state.Delete(state.KindNode, "n1"), state.Delete(state.KindTask, "t1"))
		synctest.Wait()

		var got []string
		for _, m := range *seen {
			got = append(got, text(m))
			if m.Scope != "swarm" || m.Time != time.Now().Unix() || m.TimeNano != time.Now().UnixNano() {
				t.Errorf("event %s: scope %q, time %d", text(m), m.Scope, m.Time)
			}
		}
		want := []string{
			"service create web name=web",
			"node create n1 name=one",
			"service update web name=web image.old=web:1 image.new=web:2 replicas.old=1 replicas.new=3 updatestate.new=updating",
			"service update web name=web updatestate.old=updating updatestate.new=completed",
			"node update n1 name=one availability.old=active availability.new=drain role.old=worker role.new=manager state.old=ready state.new=down",
			"service remove web name=web",
			"node remove n1 name=one",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
}

func TestEventFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		a := watch(t, store)
		for _, name := range []string{"web", "api"} {
			s, _ := statetest.Service(name, 1)
			store.Put(s)
		}
		store.Put(statetest.Node("n1"))
		store.Apply(state.Delete(state.KindService, "api"))
		synctest.Wait()
		now := strconv.FormatInt(time.Now().Unix()+1, 10)
		for filter, want := range map[string]string{
			``:                              "create web, create api, create n1, remove api",
			`{"type":["node"]}`:             "create n1",
			`{"type":["container"]}`:        "",
			`{"event":["remove"]}`:          "remove api",
			`{"service":["we"]}`:            "create web",
			`{"service":["api"]}`:           "create api, remove api",
			`{"node":["n1"]}`:               "create n1",
			`{"scope":["local"]}`:           "",
			`{"scope":["swarm","local"]}`:   "create web, create api, create n1, remove api",
			`{"label":["name=web"]}`:        "create web",
			`{"container":["x"]}`:           "",
			`{"type":{"service":true}}`:     "create web, create api, remove api",
			`{"daemon":["x"],"service":[]}`: "",
		} {
			var got []string
			err := a.Events(t.Context(), url.Values{"until": {now}, "filters": {filter}}, func(e any) error {
				m := e.(events.Message)
				got = append(got, string(m.Action)+" "+m.Actor.ID)
				return nil
			})
			if s := strings.Join(got, ", "); err != nil || s != want {
				t.Errorf("events with %s: %q, %v; want %q", filter, s, err, want)
			}
			now = strconv.FormatInt(time.Now().Unix()+1, 10)
		}
	})
}

func TestEventsAreReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		a := watch(t, store)
		for i := range 300 {
			s, _ := statetest.Service(fmt.Sprintf("s%03d", i), 1)
			store.Put(s)
			time.Sleep(time.Second) // in the bubble: no time passes
		}
		count := func(query url.Values) (n int, first string) {
			err := a.Events(t.Context(), query, func(e any) error {
				if n++; n == 1 {
					first = e.(events.Message).Actor.ID
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			return n, first
		}
		at := func(ago time.Duration) string { return strconv.FormatInt(time.Now().Add(-ago).Unix(), 10) }
		if n, first := count(url.Values{"until": {at(0)}}); n != 256 || first != "s044" {
			t.Errorf("replay of all: %d events from %s, want the newest 256", n, first)
		}
		if n, first := count(url.Values{"since": {at(10 * time.Second)}, "until": {at(5 * time.Second)}}); n != 6 || first != "s290" {
			t.Errorf("replay of a span: %d events from %s, want 6 from s290", n, first)
		}
		seen, done := follow(t, store, url.Values{"until": {at(-5 * time.Second)}})
		for range 10 {
			time.Sleep(time.Second)
			store.Put(statetest.Node("n"))
		}
		if err := <-done; err != nil || len(*seen) == 0 || len(*seen) > 5 {
			t.Errorf("live until a time: %d events, %v; want those of 5 s", len(*seen), err)
		}
	})
}

func TestSlowReaderMissesEventsButGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		a := watch(t, store)
		resume, count := make(chan struct{}), 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- a.Events(ctx, nil, func(any) error {
				if count++; count == 1 {
					<-resume
				}
				return nil
			})
		}()
		synctest.Wait()
		for i := range 1000 {
			store.Put(statetest.Node(fmt.Sprintf("n%d", i)))
			synctest.Wait()
		}
		close(resume)
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || count != 1+256 {
			t.Errorf("%d events, %v; want the first and the newest 256", count, err)
		}
	})
}

func TestBadEventQueries(t *testing.T) {
	a, err := api.New(api.Config{Store: statetest.New()})
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []url.Values{
		{"since": {"yesterday"}}, {"until": {"1.x"}}, {"since": {"20"}, "until": {"10"}}, {"filters": {"{"}},
	} {
		if err := a.Events(t.Context(), query, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("events with %v: %v, want invalid", query, err)
		}
	}
}

func TestEventsEndWithTheirReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		a := watch(t, store)
		store.Put(statetest.Node("n"))
		synctest.Wait()
		gone := errors.New("connection closed")
		if err := a.Events(t.Context(), url.Values{"since": {"1"}}, func(any) error { return gone }); !errors.Is(err, gone) {
			t.Errorf("events: %v, want the reader's error", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Events(ctx, nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("events: %v, want that of the context", err)
		}
	})
}

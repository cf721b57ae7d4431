package dispatcher

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

func attached(t *testing.T, d *Dispatcher, node string) *session {
	t.Helper()
	s := d.newSession(t.Context(), node, "worker", assignment.Hello{Boot: "b"})
	if err := d.hub.attach(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	d.hub.take(s)
	select {
	case <-s.wake:
	default:
	}
	return s
}

func TestOnlyTheSessionsConcernedAreWoken(t *testing.T) {
	store := statetest.New(statetest.Node("n1"), statetest.Node("n2"))
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s1, s2 := attached(t, d, "n1"), attached(t, d, "n2")
	store.Put(statetest.Task("t", "web", 1, "n1"))
	service, revision := statetest.Service("other", 1)
	store.Put(service, revision)
	d.hub.advance(store.View())
	if len(s1.wake) != 1 || len(s2.wake) != 0 {
		t.Errorf("woken: n1 %d, n2 %d", len(s1.wake), len(s2.wake))
	}
	if line := d.hub.take(s1); len(line.Tasks) != 1 || line.Index != store.View().Index() {
		t.Errorf("n1 gets %+v", line)
	}
}

func TestChangesInOneLineAreTheNewest(t *testing.T) {
	store := statetest.New(statetest.Node("n1"))
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s := attached(t, d, "n1")
	for _, step := range [][]state.Change{
		{state.Put(statetest.Task("kept", "web", 1, "n1"))},
		{state.Put(statetest.Task("brief", "web", 2, "n1"))},
		{state.Delete(state.KindTask, "brief")},
		{state.Delete(state.KindTask, "kept")},
		{state.Put(statetest.Task("kept", "web", 1, "n1"))},
	} {
		store.Apply(step...)
		d.hub.advance(store.View())
	}
	line := d.hub.take(s)
	if len(line.Tasks) != 1 || line.Tasks[0].ID != "kept" || !cmp.Equal(line.Remove, []string{"brief"}) {
		t.Errorf("line %+v", line)
	}
	if line = d.hub.take(s); len(line.Tasks)+len(line.Remove) != 0 {
		t.Errorf("the next line repeats %+v", line)
	}
}

func TestRestoredStateIsSentWhole(t *testing.T) {
	store := statetest.New(statetest.Node("n1"), statetest.Task("old", "web", 1, "n1"))
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s := attached(t, d, "n1")
	restored := statetest.New(statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3"), statetest.Task("new", "web", 1, "n1"))
	db, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Restore(snapshot(t, restored.View())); err != nil {
		t.Fatal(err)
	}
	d.hub.advance(db.View())
	if line := d.hub.take(s); !line.Full || len(line.Tasks) != 1 || line.Tasks[0].ID != "new" || len(line.Remove) > 0 {
		t.Errorf("line %+v", line)
	}
	if s.ended() {
		t.Error("the session ended")
	}
	// A node that the restored state does not know is cut off.
	d.hub.advance(statetest.View(statetest.Node("n2")))
	if !s.ended() {
		t.Error("the session of an unknown node goes on")
	}
}

func TestAttachWaitsForTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(statetest.Node("n1"))
		d := newDispatcher(t, store, nil)
		d.hub.open(store.View())
		ahead := d.newSession(t.Context(), "n1", "worker", assignment.Hello{Boot: "b", Index: store.View().Index() + 1})
		ctx, cancel := context.WithTimeout(t.Context(), openTimeout)
		defer cancel()
		if err := d.hub.attach(ctx, ahead); !errdefs.IsUnavailable(err) {
			t.Errorf("attach to a replica that lags: %v", err)
		}
		joined := d.newSession(t.Context(), "n2", "worker", assignment.Hello{Boot: "b"})
		done := make(chan error)
		go func() { done <- d.hub.attach(t.Context(), joined) }()
		time.Sleep(time.Second)
		store.Put(statetest.Node("n2"))
		d.hub.advance(store.View())
		if err := <-done; err != nil {
			t.Errorf("attach of a node that has just joined: %v", err)
		}
		if err := d.hub.attach(t.Context(), ahead); err != nil {
			t.Errorf("attach once the replica has caught up: %v", err)
		}
	})
}

func snapshot(t *testing.T, v *state.View) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	if err := v.WriteSnapshot(&buf); err != nil {
		t.Fatal(err)
	}
	return &buf
}

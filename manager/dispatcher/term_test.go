package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/taskstate"
	"shoal/raftstore/state/statetest"
)

func newDispatcher(t *testing.T, store Store, r prometheus.Registerer) *Dispatcher {
	t.Helper()
	d, err := New(Config{
		NodeID: "m1", Store: store, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: r,
		Identity: func(*http.Request) (string, string, bool) { return "", "", false },
		Forward:  func(context.Context, Batch) (Answer, error) { return Answer{}, errNotLeading },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLeaderThatWasHeldUpBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(statetest.Node("n1"), statetest.Node("n2"))
		tm := &term{d: newDispatcher(t, store, nil), ledger: newLedger(time.Now())}
		round := func() swarm.NodeState {
			t.Helper()
			if err := tm.round(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			return store.View().Node("n1").Status.State
		}
		round()
		time.Sleep(10 * time.Second) // the process did not run
		for range int(DownAfter/judgeEvery) - 1 {
			if round() != swarm.NodeStateReady {
				t.Fatal("down after the leader's own pause")
			}
			time.Sleep(judgeEvery)
		}
		time.Sleep(2 * judgeEvery)
		if round() != swarm.NodeStateDown {
			t.Error("a real loss is not found any more")
		}
	})
}

func TestReportNeedsTheLeader(t *testing.T) {
	d := newDispatcher(t, statetest.New(), nil)
	if _, err := d.Report(t.Context(), Batch{}); !errdefs.IsUnavailable(err) {
		t.Errorf("Report without a term: %v", err)
	}
}

func TestReportFailsWhenNothingIsCommitted(t *testing.T) {
	store := statetest.New(statetest.Node("n1"), statetest.Task("t", "web", 1, "n1"))
	d := newDispatcher(t, store, nil)
	d.setTerm(&term{d: d, ledger: newLedger(time.Now())})
	boom := errors.New("no quorum")
	store.Fail(boom)
	for _, b := range []Batch{
		{Opened: []Opened{{NodeID: "n1", Boot: "b"}}},
		{Statuses: []Status{{"n1", "t", taskstate.Status{State: taskstate.Failed}}}},
	} {
		if _, err := d.Report(t.Context(), b); !errors.Is(err, boom) {
			t.Errorf("Report(%+v): %v", b, err)
		}
	}
}

func TestTermEndsWhenTheStateCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(statetest.Node("n1"))
		d := newDispatcher(t, store, prometheus.NewRegistry())
		boom := errors.New("not the leader")
		time.AfterFunc(time.Second, func() { store.Fail(boom) })
		if err := d.Run(t.Context()); !errors.Is(err, boom) {
			t.Errorf("Run: %v", err)
		}
		if d.leading() {
			t.Error("still leading")
		}
	})
}

func TestManyOrphansAreGivenUpInSteps(t *testing.T) {
	store := statetest.New()
	for i := range maxChanges + 10 {
		store.Put(statetest.Task(time.Duration(i).String(), "web", i+1, "gone"))
	}
	before := store.Updates()
	tm := &term{d: newDispatcher(t, store, nil), ledger: newLedger(time.Now())}
	if err := tm.round(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := store.Updates() - before; n != 2 {
		t.Errorf("%d updates, want 2", n)
	}
	for tk := range store.View().Tasks() {
		if tk.Status.State != taskstate.Orphaned {
			t.Fatalf("task %s is %v", tk.ID, tk.Status.State)
		}
	}
}

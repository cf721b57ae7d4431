package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

const benchNodes = 10_000

// benchDispatcher holds a session of each of 10,000 nodes and leads.
func benchDispatcher(b *testing.B) (*Dispatcher, *statetest.Store) {
	b.Helper()
	service, revision := statetest.Service("web", benchNodes)
	store := statetest.New(service, revision)
	var changes []state.Change
	for i := range benchNodes {
		node := fmt.Sprintf("n%05d", i)
		changes = append(changes, state.Put(statetest.Node(node, func(n *state.Node) { n.Boot = "boot" })), state.Put(statetest.Task("t"+node, "web", i+1, node)))
	}
	store.Apply(changes...)
	d, err := New(Config{
		NodeID: "m1", Store: store,
		Identity: func(*http.Request) (string, string, bool) { return "", "", false },
		Forward:  func(context.Context, Batch) (Answer, error) { return Answer{}, errNotLeading },
	})
	if err != nil {
		b.Fatal(err)
	}
	d.setTerm(&term{d: d, ledger: newLedger(time.Now())})
	d.hub.open(store.View())
	for i := range benchNodes {
		s := d.newSession(b.Context(), fmt.Sprintf("n%05d", i), "worker", assignment.Hello{Boot: "boot", Index: store.View().Index()})
		if err := d.hub.attach(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	return d, store
}

// BenchmarkReport10000Nodes is what one second of heartbeats of 10,000 nodes
// costs a manager and the leader: signs of life gathered, encoded, decoded and
// noted, and silence judged four times.
func BenchmarkReport10000Nodes(b *testing.B) {
	d, store := benchDispatcher(b)
	l := newLedger(time.Now())
	for b.Loop() {
		text, err := json.Marshal(Batch{ManagerID: "m1", Alive: d.hub.signs()})
		if err != nil {
			b.Fatal(err)
		}
		var batch Batch
		if err := json.Unmarshal(text, &batch); err != nil {
			b.Fatal(err)
		}
		l.hear(store.View(), batch, time.Now())
		for range 4 {
			l.judge(store.View(), time.Now(), func(string) bool { return false })
		}
		b.ReportMetric(float64(len(text)), "bytes/report")
	}
}

// BenchmarkHeartbeatLine is what one heartbeat costs a manager, up and down,
// without the network.
func BenchmarkHeartbeatLine(b *testing.B) {
	d, _ := benchDispatcher(b)
	s := d.hub.sessions["n00001"]
	for b.Loop() {
		var up assignment.Up
		if err := json.Unmarshal([]byte("{}"), &up); err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(d.hub.take(s)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFanOutOneChange is one changed task with 10,000 sessions.
func BenchmarkFanOutOneChange(b *testing.B) {
	d, store := benchDispatcher(b)
	s := d.hub.sessions["n00001"]
	d.hub.take(s)
	states := []taskstate.State{taskstate.Shutdown, taskstate.Running}
	n := 0
	for b.Loop() {
		b.StopTimer()
		store.Put(statetest.Task("tn00001", "web", 2, "n00001", statetest.Desired(states[n%2])))
		n++
		v := store.View()
		b.StartTimer()
		d.hub.advance(v)
		if line := d.hub.take(s); len(line.Tasks) != 1 {
			b.Fatal("the change did not arrive")
		}
	}
}

// BenchmarkStatuses2000 is the decision on 2,000 statuses.
func BenchmarkStatuses2000(b *testing.B) {
	_, store := benchDispatcher(b)
	var statuses []Status
	for i := range 2000 {
		node := fmt.Sprintf("n%05d", i)
		statuses = append(statuses, Status{node, "t" + node, taskstate.Status{State: taskstate.Complete}})
	}
	for b.Loop() {
		if got := planStatuses(store.View(), statuses); len(got) != 2000 {
			b.Fatal(len(got))
		}
	}
}

// BenchmarkFabricOneChange is one task of 10,000 that becomes ready to serve
// and ceases to be, in 1,000 services on 100 networks, with 100 sessions.
func BenchmarkFabricOneChange(b *testing.B) {
	store := statetest.New()
	var changes []state.Change
	for i := range 100 {
		changes = append(changes, state.Put(networkObject(fmt.Sprintf("net%d", i), false)), state.Put(statetest.Node(fmt.Sprintf("n%d", i))))
	}
	onNetwork := func(i int) *state.Task {
		t := statetest.Task(fmt.Sprintf("t%d", i), fmt.Sprintf("s%d", i/10), i%10+1, fmt.Sprintf("n%d", i*7%100))
		t.Networks = []state.TaskNetwork{{NetworkID: fmt.Sprintf("net%d", i/100)}}
		return t
	}
	for i := range 1000 {
		service, revision := statetest.Service(fmt.Sprintf("s%d", i), 10)
		changes = append(changes, state.Put(service), state.Put(revision))
	}
	for i := range 10_000 {
		changes = append(changes, state.Put(onNetwork(i)))
	}
	store.Apply(changes...)
	d, err := New(Config{NodeID: "m1", Store: store, Identity: unknown, Forward: nowhere})
	if err != nil {
		b.Fatal(err)
	}
	d.hub.open(store.View())
	for i := range 100 {
		s := d.newSession(b.Context(), fmt.Sprintf("n%d", i), "worker", assignment.Hello{Boot: "boot", Index: store.View().Index()})
		if err := d.hub.attach(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		d.hub.take(s)
	}
	told := 0
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		t := onNetwork(4242)
		if n%2 == 0 {
			t.Status.State = taskstate.Starting
		}
		store.Put(t)
		v := store.View()
		b.StartTimer()
		d.hub.advance(v)
		for _, s := range d.hub.sessions {
			if len(s.wake) > 0 {
				<-s.wake
				if f := d.hub.take(s).Fabric; f != nil && len(f.Endpoints) == 1 {
					told++
				}
			}
		}
	}
	b.ReportMetric(float64(told)/float64(b.N), "sessions/change")
}

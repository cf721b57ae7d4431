package state_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func ids[T state.Object](seq iter.Seq[T]) (keys []string) {
	for o := range seq {
		keys = append(keys, o.Key())
	}
	return keys
}

func newDB(t testing.TB) *state.DB {
	t.Helper()
	db, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// entry makes the entry that follows db, the way a leader does.
func entry(db *state.DB, now time.Time, updates ...[]state.Change) state.Entry {
	draft := state.NewDraft(db.View())
	e := state.Entry{Version: state.EntryVersion, First: db.View().Index() + 1}
	for i, changes := range updates {
		stamped := state.Stamp(draft.View(), changes, e.First+uint64(i), now)
		if err := draft.Add(stamped); err != nil {
			panic(err)
		}
		e.Updates = append(e.Updates, stamped)
	}
	return e
}

func TestIndexesFindWhatTheyShould(t *testing.T) {
	web, webRevision := statetest.Service("web", 3)
	api, _ := statetest.Service("API", 1)
	v := statetest.View(
		web, webRevision, api,
		&state.Revision{ServiceID: "web", Number: 10}, &state.Revision{ServiceID: "web", Number: 2}, &state.Revision{ServiceID: "webb", Number: 1},
		statetest.Node("n1"), statetest.Node("n10"), statetest.Node("m2"),
		statetest.Task("t3", "web", 256, "n1"), statetest.Task("t1", "web", 2, "n10"), statetest.Task("t2", "web", 1, "n1"),
		statetest.Task("t4", "web", 1, ""), statetest.Task("t5", "webb", 1, "", statetest.Observed(taskstate.Pending)),
	)
	for what, c := range map[string]struct{ got, want []string }{
		"nodes":             {ids(v.Nodes()), []string{"m2", "n1", "n10"}},
		"nodes by prefix":   {ids(v.NodesByPrefix("n1")), []string{"n1", "n10"}},
		"revisions":         {ids(v.Revisions("web")), []string{state.RevisionKey("web", 1), state.RevisionKey("web", 2), state.RevisionKey("web", 10)}},
		"tasks of service":  {ids(v.TasksOfService("web")), []string{"t2", "t4", "t1", "t3"}},
		"tasks of slot 1":   {ids(v.TasksOfSlot("web", 1)), []string{"t2", "t4"}},
		"tasks of slot 256": {ids(v.TasksOfSlot("web", 256)), []string{"t3"}},
		"tasks of node n1":  {ids(v.TasksOfNode("n1")), []string{"t2", "t3"}},
		"tasks of node n":   {ids(v.TasksOfNode("n")), nil},
		"new tasks":         {ids(v.TasksNew()), []string{"t4"}},
		"pending tasks":     {ids(v.TasksPending()), []string{"t5"}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	if got := v.ServiceByName("api"); got == nil || got.ID != "API" {
		t.Errorf("ServiceByName(api) = %v: names differ in case only", got)
	}
	if got := v.ServiceByName("we"); got != nil {
		t.Errorf("ServiceByName(we) = %s: a prefix is not the name", got.ID)
	}
	if v.Node("n") != nil || v.Cluster() != nil {
		t.Error("found an object that is not there")
	}
}

func TestViewsNeverChange(t *testing.T) {
	s := statetest.New(statetest.Node("n1"))
	before := s.View()
	s.Put(statetest.Node("n2"))
	s.Apply(state.Delete(state.KindNode, "n1"))
	if got := ids(before.Nodes()); !slices.Equal(got, []string{"n1"}) {
		t.Errorf("an old view now has nodes %v", got)
	}
	if got := ids(s.View().Nodes()); !slices.Equal(got, []string{"n2"}) {
		t.Errorf("the new view has nodes %v", got)
	}
}

func TestStampSetsVersionAndTimes(t *testing.T) {
	db, t0 := newDB(t), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	node := statetest.Node("n1")
	for i := range 2 {
		if err := db.Apply(entry(db, t0.Add(time.Duration(i)*time.Hour), []state.Change{state.Put(node)})); err != nil {
			t.Fatal(err)
		}
	}
	got := db.View().Node("n1").Meta
	if got.Version.Index != 2 || !got.CreatedAt.Equal(t0) || !got.UpdatedAt.Equal(t0.Add(time.Hour)) {
		t.Errorf("meta = %+v", got)
	}
	if node.Version.Index != 0 {
		t.Error("Stamp changed the caller's object")
	}
}

func TestApplyRefusesEntriesThatDoNotFollow(t *testing.T) {
	db := newDB(t)
	e := entry(db, time.Now(), []state.Change{state.Put(statetest.Node("n1"))})
	if err := db.Apply(e); err != nil {
		t.Fatal(err)
	}
	for _, first := range []uint64{0, 1, 3} {
		e.First = first
		if err := db.Apply(e); !errors.Is(err, state.ErrStale) {
			t.Errorf("entry %d on index 1: %v, want ErrStale", first, err)
		}
	}
	if got := db.View().Index(); got != 1 {
		t.Errorf("index = %d after refused entries", got)
	}
}

func TestSinceTellsWhatChanged(t *testing.T) {
	db := newDB(t)
	put := func(id string) []state.Change { return []state.Change{state.Put(statetest.Node(id))} }
	for _, e := range [][][]state.Change{{put("n1"), put("n2")}, {put("n1")}, {{state.Delete(state.KindNode, "n2"), state.Delete(state.KindNode, "nothing")}}} {
		if err := db.Apply(entry(db, time.Now(), e...)); err != nil {
			t.Fatal(err)
		}
	}
	describe := func(from uint64) (got []string) {
		events, ok := db.View().Since(from)
		if !ok {
			return []string{"unknown"}
		}
		for _, e := range events {
			what := "updated"
			if e.Old == nil {
				what = "created"
			} else if e.New == nil {
				what = "deleted"
			}
			got = append(got, fmt.Sprintf("%d %s %s", e.Index, e.Object().Key(), what))
		}
		return got
	}
	for from, want := range [][]string{
		{"1 n1 created", "2 n2 created", "3 n1 updated", "4 n2 deleted"},
		{"2 n2 created", "3 n1 updated", "4 n2 deleted"},
		{"3 n1 updated", "4 n2 deleted"},
		{"4 n2 deleted"},
		nil,
		{"unknown"},
	} {
		if diff := cmp.Diff(want, describe(uint64(from))); diff != "" {
			t.Errorf("since %d (-want +got):\n%s", from, diff)
		}
	}
}

func TestSinceForgetsOldEventsButNeverHalfAnUpdate(t *testing.T) {
	db := newDB(t)
	const perEntry = 1000
	for range 200 {
		var changes []state.Change
		for i := range perEntry {
			changes = append(changes, state.Put(&state.Request{ID: fmt.Sprint(i)}))
		}
		if err := db.Apply(entry(db, time.Now(), changes)); err != nil {
			t.Fatal(err)
		}
	}
	v := db.View()
	if _, ok := v.Since(0); ok {
		t.Error("Since(0) still knows everything after 200,000 changes")
	}
	known := 0
	for from := range v.Index() {
		events, ok := v.Since(from)
		if !ok {
			continue
		}
		known++
		if want := int(v.Index()-from) * perEntry; len(events) != want {
			t.Fatalf("Since(%d) has %d events, want %d", from, len(events), want)
		}
	}
	if known < 60 {
		t.Errorf("Since knows only %d of the last updates", known)
	}
}

func TestDraftRunsAheadOfItsView(t *testing.T) {
	base := statetest.View(statetest.Node("n1"))
	draft := state.NewDraft(base)
	if err := draft.Add([]state.Change{state.Put(statetest.Node("n2"))}); err != nil {
		t.Fatal(err)
	}
	if draft.View().Index() != base.Index()+1 || draft.View().Node("n2") == nil || base.Node("n2") != nil {
		t.Error("a draft must see what was added, and its base must not")
	}
	if _, ok := draft.View().Since(0); ok {
		t.Error("a draft claims to know what changed")
	}
}

func TestReplicasFedTheSameEntriesAreEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := mustNew(), mustNew()
		for range rapid.IntRange(1, 12).Draw(t, "entries") {
			e := entry(a, drawTime(t), drawUpdates(t)...)
			data, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			decoded, err := state.DecodeEntry(data)
			if err != nil {
				t.Fatal(err)
			}
			// a applies what the leader holds in memory, b what came over the wire.
			if err := errors.Join(a.Apply(e), b.Apply(decoded)); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, a, b)
	})
}

func TestSnapshotAndRestoreIsTheIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := mustNew(), mustNew()
		if err := a.Apply(entry(a, drawTime(t), drawUpdates(t)...)); err != nil {
			t.Fatal(err)
		}
		var snapshot bytes.Buffer
		if err := a.View().WriteSnapshot(&snapshot); err != nil {
			t.Fatal(err)
		}
		if err := b.Restore(&snapshot); err != nil {
			t.Fatal(err)
		}
		equal(t, a, b)
		if _, ok := b.View().Since(0); ok && a.View().Index() > 0 {
			t.Fatal("Since knows what was before a restored snapshot")
		}
		if err := b.Apply(entry(b, drawTime(t), drawUpdates(t)...)); err != nil {
			t.Fatalf("a restored state cannot go on: %v", err)
		}
	})
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	var whole bytes.Buffer
	if err := statetest.View(statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1")).WriteSnapshot(&whole); err != nil {
		t.Fatal(err)
	}
	db := newDB(t)
	refused := func(what string, data []byte) {
		if err := db.Restore(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: restored", what)
		}
		if db.View().Index() != 0 {
			t.Fatalf("%s: the state changed", what)
		}
	}
	for cut := range whole.Len() {
		refused(fmt.Sprintf("cut to %d bytes", cut), whole.Bytes()[:cut])
	}
	for at := range whole.Len() - 1 {
		flipped := bytes.Clone(whole.Bytes())
		flipped[at] ^= 1
		refused(fmt.Sprintf("bit of byte %d flipped", at), flipped)
	}
	refused("later format", []byte(strings.Replace(whole.String(), `"v":1`, `"v":2`, 1)))
}

func TestUnknownEntriesAreRefused(t *testing.T) {
	for name, data := range map[string]string{
		"later format":    `{"v":2,"first":1,"updates":[]}`,
		"unknown kind":    `{"v":1,"first":1,"updates":[[{"k":"pod","o":{}}]]}`,
		"no object":       `{"v":1,"first":1,"updates":[[{"k":"node"}]]}`,
		"no key":          `{"v":1,"first":1,"updates":[[{"k":"node","o":{}}]]}`,
		"unknown state":   `{"v":1,"first":1,"updates":[[{"k":"task","o":{"ID":"t1","Desired":"flying"}}]]}`,
		"not an entry":    `[]`,
		"not even JSON":   `{`,
		"revision, no id": `{"v":1,"first":1,"updates":[[{"k":"revision","o":{"Number":1}}]]}`,
	} {
		if e, err := state.DecodeEntry([]byte(data)); err == nil {
			t.Errorf("%s: decoded as %+v", name, e)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	data, err := entry(mustNew(), time.Unix(0, 0), []state.Change{state.Put(statetest.Node("n1")), state.Delete(state.KindTask, "t1")}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := state.DecodeEntry(data)
		if err != nil {
			return
		}
		a, b := mustNew(), mustNew()
		errA, errB := a.Apply(e), b.Apply(e)
		if (errA == nil) != (errB == nil) {
			t.Fatalf("apply: %v and %v", errA, errB)
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		if _, err := state.DecodeEntry(again); err != nil {
			t.Fatalf("cannot decode %s: %v", again, err)
		}
		hashA, errA := a.View().Hash()
		hashB, errB := b.View().Hash()
		if hashA != hashB || errA != nil || errB != nil {
			t.Fatalf("replicas differ: %v %v", errA, errB)
		}
	})
}

func mustNew() *state.DB {
	db, err := state.New()
	if err != nil {
		panic(err)
	}
	return db
}

func equal(t *rapid.T, a, b *state.DB) {
	hashA, err := a.View().Hash()
	if err != nil {
		t.Fatal(err)
	}
	hashB, err := b.View().Hash()
	if err != nil {
		t.Fatal(err)
	}
	if hashA != hashB {
		t.Fatalf("states differ at index %d and %d", a.View().Index(), b.View().Index())
	}
}

func drawTime(t *rapid.T) time.Time {
	return time.Unix(0, rapid.Int64Range(0, 1<<60).Draw(t, "now"))
}

func drawUpdates(t *rapid.T) (updates [][]state.Change) {
	key := rapid.SampledFrom([]string{"a", "b", "c"})
	for range rapid.IntRange(1, 4).Draw(t, "updates") {
		var changes []state.Change
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			o := drawObject(t, key.Draw(t, "key"))
			if rapid.Bool().Draw(t, "delete") {
				changes = append(changes, state.Delete(o.Kind(), o.Key()))
			} else {
				changes = append(changes, state.Put(o))
			}
		}
		updates = append(updates, changes)
	}
	return updates
}

func drawObject(t *rapid.T, key string) state.Object {
	service, revision := statetest.Service(key, rapid.Uint64Range(0, 3).Draw(t, "replicas"))
	network, secret, config, volume := &state.Network{}, &state.Secret{}, &state.Config{}, &state.Volume{}
	network.ID, secret.ID, config.ID, volume.Name = key, key, key, key
	secret.Spec.Data = []byte(key)
	if rapid.Bool().Draw(t, "run") {
		revision.Run = &runspec.Spec{ShmSize: 1 << 20}
	}
	s := rapid.SampledFrom(taskstate.All()).Draw(t, "state")
	return rapid.SampledFrom([]state.Object{
		&state.Cluster{GossipKeys: [][]byte{{1, 2}}, FeatureLevel: 1},
		statetest.Node(key, statetest.Drained), service, revision,
		statetest.Task(key, "a", 1, rapid.SampledFrom([]string{"", "a"}).Draw(t, "node"), statetest.Observed(s)),
		network, secret, config, volume, drawAttachment(t, key), drawNetworked(t, key, s), drawValue(t),
		&state.Request{ID: key, Status: 201, Body: []byte(`{"ID":"x"}`)},
	}).Draw(t, "object")
}

func TestObjectsReadBackAsWritten(t *testing.T) {
	service, revision := statetest.Service("web", 2)
	service.Revision, service.RegistryAuth = 7, "token"
	task := statetest.Task("t1", "web", 1, "n1")
	task.StartAfter, task.Restarts = time.Unix(9, 0).UTC(), state.Restarts{Count: 2, Recent: []time.Time{time.Unix(8, 0).UTC()}, Quick: 1}
	written := []state.Object{service, revision, task, statetest.Node("n1", statetest.Label("a", "b"))}
	for _, changes := range slices.Concat(goldenNetworks(), goldenValues(), goldenRun()) {
		for _, c := range changes {
			if o := c.Object(); o != nil {
				written = append(written, o)
			}
		}
	}
	for _, o := range written {
		text, err := json.Marshal(state.Put(o))
		if err != nil {
			t.Fatal(err)
		}
		var back state.Change
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, back.Object(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("%s (-written +read):\n%s", o.Kind(), diff)
		}
	}
}

// Entries are applied, drafts made from the same views, and all of it read, at
// once: run with -race.
func TestViewsMayBeUsedConcurrently(t *testing.T) {
	db := newDB(t)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				v := db.View()
				draft := state.NewDraft(v)
				if err := draft.Add([]state.Change{state.Put(statetest.Node(fmt.Sprintf("draft%d", i)))}); err != nil {
					t.Error(err)
				}
				if got, want := len(ids(draft.View().Nodes())), len(ids(v.Nodes()))+1; got != want {
					t.Errorf("draft has %d nodes, want %d", got, want)
				}
			}
		})
	}
	for i := range 300 {
		if err := db.Apply(entry(db, time.Now(), []state.Change{state.Put(statetest.Node(fmt.Sprint(i)))})); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	if got := len(ids(db.View().Nodes())); got != 300 {
		t.Errorf("%d nodes", got)
	}
}

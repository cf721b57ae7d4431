package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// rig is one manager, n2 of three, whose log was written beforehand, and the
// wire of n1, in whose name the test speaks to it.
type rig struct {
	*Store
	n1 *raft.InmemTransport
}

// newRig writes 20 entries to the log of n2, each of which puts a node: up to
// same with term 1, the rest with term 2. The first entry is the configuration.
func newRig(t *testing.T, same uint64, prepare func(*disk)) *rig {
	t.Helper()
	_, wire := raft.NewInmemTransport("n2:2377")
	cfg := Config{Dir: t.TempDir(), NodeID: "n2", Addr: "n2:2377", Key: testKey(), Transport: wire, Log: testLog()}
	cfg.setDefaults()
	d, err := openDisk(cfg, cfg.Log, func(time.Duration) {})
	must(t, err)
	for i := uint64(1); i <= 20; i++ {
		term := uint64(1)
		if i > same {
			term = 2
		}
		must(t, d.logs.StoreLog(rigEntry(i, term)))
	}
	must(t, d.stable.SetUint64([]byte("CurrentTerm"), 2))
	if prepare != nil {
		prepare(d)
	}
	must(t, d.close())
	s, err := Open(cfg)
	must(t, err)
	_, n1 := raft.NewInmemTransport("n1:2377")
	n1.Connect("n2:2377", wire)
	wire.Connect("n1:2377", n1)
	return &rig{s, n1}
}

func rigConfiguration() raft.Configuration {
	var c raft.Configuration
	for _, id := range []string{"n1", "n2", "n3"} {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":2377")})
	}
	return c
}

// rigEntry is entry i of a log whose first is the configuration: it puts node
// "i" as update i-1. The label tells which term wrote it.
func rigEntry(i, term uint64) *raft.Log {
	if i == 1 {
		return &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(rigConfiguration())}
	}
	e := state.Entry{Version: state.EntryVersion, First: i - 1, Updates: [][]state.Change{{
		state.Put(statetest.Node(fmt.Sprint(i), statetest.Label("term", fmt.Sprint(term)))),
	}}}
	data, err := e.Encode()
	if err != nil {
		panic(err)
	}
	return &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: data}
}

func (r *rig) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte("n1:2377")}
}

// append sends entries (prev, to] of this term in the name of n1.
func (r *rig) append(t *testing.T, leaderTerm, prev, prevTerm, to, commit uint64) bool {
	t.Helper()
	req := &raft.AppendEntriesRequest{RPCHeader: r.header(), Term: leaderTerm, PrevLogEntry: prev, PrevLogTerm: prevTerm, LeaderCommitIndex: commit}
	for i := prev + 1; i <= to; i++ {
		req.Entries = append(req.Entries, rigEntry(i, leaderTerm))
	}
	var resp raft.AppendEntriesResponse
	must(t, r.n1.AppendEntries("n2", "n2:2377", req, &resp))
	synctest.Wait()
	return resp.Success
}

// install sends the snapshot that the entries up to index give, all of them
// written in this term.
func (r *rig) install(t *testing.T, term, index uint64) bool {
	t.Helper()
	db, err := state.New()
	must(t, err)
	for i := uint64(2); i <= index; i++ {
		e, err := state.DecodeEntry(rigEntry(i, term).Data)
		must(t, err)
		must(t, db.Apply(e))
	}
	body := &memorySink{}
	must(t, snapshot{db.View(), index}.Persist(body))
	req := &raft.InstallSnapshotRequest{
		RPCHeader: r.header(), SnapshotVersion: 1, Term: term, LastLogIndex: index, LastLogTerm: term, Size: int64(body.Len()),
		Configuration: raft.EncodeConfiguration(rigConfiguration()), ConfigurationIndex: 1,
	}
	var resp raft.InstallSnapshotResponse
	must(t, r.n1.InstallSnapshot("n2", "n2:2377", req, &resp, body))
	synctest.Wait()
	return resp.Success
}

// memorySink is a raft.SnapshotSink that keeps what is written.
type memorySink struct{ bytes.Buffer }

func (*memorySink) Close() error  { return nil }
func (*memorySink) ID() string    { return "memory" }
func (*memorySink) Cancel() error { return nil }

// G1, hashicorp/raft#661: a crash between the two writes of a vote must not
// leave one for the candidate of an earlier term.
func TestTornVoteIsNotHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 20, func(d *disk) {
			must(t, d.stable.SetUint64([]byte(voteTerm), 2))
			must(t, d.stable.Set([]byte(voteCandidate), []byte("n1:2377")))
			must(t, d.stable.SetUint64([]byte("CurrentTerm"), 3))
			must(t, d.stable.SetUint64([]byte(voteTerm), 3)) // the power fails here
		})
		defer r.Close()
		var resp raft.RequestVoteResponse
		must(t, r.n1.RequestVote("n2", "n2:2377", &raft.RequestVoteRequest{
			RPCHeader: r.header(), Term: 3, LastLogIndex: 1, LastLogTerm: 1,
		}, &resp))
		if resp.Granted {
			t.Error("voted for a candidate that lacks entries")
		}
	})
}

func TestVoteSurvivesRestart(t *testing.T) {
	inner := raft.NewInmemStore()
	s := &stableStore{StableStore: inner}
	if _, err := s.GetUint64([]byte(voteTerm)); !notFound(err) {
		t.Errorf("GetUint64 of an empty store = %v", err)
	}
	must(t, s.SetUint64([]byte(voteTerm), 7))
	must(t, s.Set([]byte(voteCandidate), []byte("n3")))
	again := &stableStore{StableStore: inner}
	term, err := again.GetUint64([]byte(voteTerm))
	candidate, err2 := again.Get([]byte(voteCandidate))
	if term != 7 || string(candidate) != "n3" || err != nil || err2 != nil {
		t.Errorf("vote of term %d for %q, %v, %v", term, candidate, err, err2)
	}
}

// G2: a snapshot that comes late must not move the state back.
func TestLateSnapshotIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 20, nil)
		defer r.Close()
		if !r.append(t, 3, 20, 1, 20, 20) || r.View().Index() != 19 {
			t.Fatalf("index %d before the test", r.View().Index())
		}
		if !r.install(t, 3, 5) {
			t.Error("the leader was told that its snapshot was refused; it would send it again")
		}
		if got := r.raft.Load().AppliedIndex(); got != 20 {
			t.Errorf("raft's applied index went from 20 to %d", got)
		}
		if got := r.View().Index(); got != 19 {
			t.Errorf("the state went from 19 to %d", got)
		}
		if !r.append(t, 3, 20, 1, 22, 22) || r.View().Index() != 21 {
			t.Errorf("after it: index %d, want 21", r.View().Index())
		}
	})
}

// The state stays where it is even when raft goes back.
func TestRestoreNeverMovesBack(t *testing.T) {
	db, err := state.New()
	must(t, err)
	f := newFSM(db, func() {}, func(err error) { t.Error(err) })
	var old memorySink
	for i := uint64(2); i <= 20; i++ {
		if err := f.Apply(rigEntry(i, 1)); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			snap, err := f.Snapshot()
			must(t, err)
			must(t, snap.Persist(&old))
		}
	}
	must(t, f.Restore(readCloser{&old}))
	if got := db.View().Index(); got != 19 {
		t.Errorf("index went from 19 to %d", got)
	}
	for i := uint64(6); i <= 21; i++ {
		if err := f.Apply(rigEntry(i, 1)); err != nil {
			t.Errorf("entry %d again: %v", i, err)
		}
	}
	if got := db.View().Index(); got != 20 {
		t.Errorf("index %d, want 20", got)
	}
}

type readCloser struct{ *memorySink }

// G3, hashicorp/raft#697: after a snapshot that contradicts the end of its
// log, a manager must follow again.
func TestConflictingSnapshotIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10, nil) // 11 to 20 were never committed
		defer r.Close()
		if !r.install(t, 3, 15) {
			t.Fatal("snapshot refused")
		}
		if !r.append(t, 3, 15, 3, 25, 25) {
			t.Fatal("entries after the snapshot are refused")
		}
		if got := r.View(); got.Index() != 24 || got.Node("12").Spec.Labels["term"] != "3" {
			t.Errorf("index %d, node 12 is of term %s", got.Index(), got.Node("12").Spec.Labels["term"])
		}
	})
}

// What lies below a snapshot and was never committed must not stay in the log:
// as a leader this manager would send it to others.
func TestWrongEntriesBelowSnapshotGo(t *testing.T) {
	for _, index := range []uint64{15, 25} {
		t.Run(fmt.Sprint("snapshot at ", index), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 10, nil)
				if !r.install(t, 3, index) || !r.append(t, 3, index, 3, index+2, index+2) {
					t.Fatal("refused")
				}
				cfg := r.cfg
				for i := uint64(11); i <= index; i++ {
					var l raft.Log
					if err := r.disk.logs.GetLog(i, &l); err == nil && l.Term != 3 {
						t.Errorf("entry %d of term %d is still there", i, l.Term)
					}
				}
				must(t, r.Close())
				_, cfg.Transport = raft.NewInmemTransport("n2:2377")
				again, err := Open(cfg)
				must(t, err)
				defer again.Close()
				// Entries after the snapshot are applied when a leader says so.
				if got := again.View().Index(); got != index-1 {
					t.Errorf("index %d after a restart, want %d", got, index-1)
				}
			})
		})
	}
}

// slowDisk is a log whose writes hang or fail while it is told to.
type slowDisk struct {
	raft.LogStore
	hang atomic.Pointer[chan struct{}]
	fail atomic.Pointer[error]
}

func (d *slowDisk) StoreLogs(logs []*raft.Log) error {
	if c := d.hang.Load(); c != nil {
		<-*c
	}
	if err := d.fail.Load(); err != nil {
		return *err
	}
	return d.LogStore.StoreLogs(logs)
}

// withDisks gives each manager a disk that the test can hang or fill.
func withDisks(disks map[string]*slowDisk) func(*Config) {
	return func(c *Config) {
		d := &slowDisk{}
		disks[c.NodeID] = d
		c.hooks.logs = func(inner raft.LogStore) raft.LogStore {
			d.LogStore = inner
			return d
		}
		c.hooks.free = func() (uint64, uint64, error) {
			if d.fail.Load() != nil {
				return 0, 1 << 40, nil
			}
			return 1 << 39, 1 << 40, nil
		}
	}
}

// G4, hashicorp/raft#503: a leader whose disk hangs goes on sending
// heartbeats; it has to make room for another.
func TestHungDiskEndsLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := map[string]*slowDisk{}
		c := newCluster(t, 3, withDisks(disks))
		old := c.leader()
		release := make(chan struct{})
		disks[old.cfg.NodeID].hang.Store(&release)
		began := time.Now()
		answer := make(chan error, 1)
		go func() { answer <- old.Update(t.Context(), put("a")) }()
		<-old.Failed()
		if err := old.Err(); !strings.Contains(err.Error(), "disk hangs") {
			t.Errorf("Err = %v", err)
		}
		next := c.leader(old.cfg.NodeID)
		if took := time.Since(began); took > 9*time.Second {
			t.Errorf("no new leader for %s", took)
		}
		must(t, next.Update(t.Context(), put("b")))
		close(release)
		if err := <-answer; !errdefs.IsUnavailable(err) {
			t.Errorf("Update = %v", err)
		}
		c.close()
	})
}

// G5: a leader whose disk is full hands over, and comes back by itself.
func TestFullDiskEndsLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := map[string]*slowDisk{}
		c := newCluster(t, 3, withDisks(disks))
		defer c.close()
		old := c.leader()
		full := error(&testPathError{syscall.ENOSPC})
		disks[old.cfg.NodeID].fail.Store(&full)
		if err := old.Update(t.Context(), put("a")); !errdefs.IsUnavailable(err) {
			t.Errorf("Update = %v", err)
		}
		next := c.leader(old.cfg.NodeID)
		must(t, next.Update(t.Context(), put("b")))
		addr := raft.ServerAddress(next.cfg.Addr)
		if err := old.guard.RequestPreVote("x", addr, &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{}); !errors.Is(err, errDiskFull) {
			t.Errorf("it asks for votes: %v", err)
		}
		if err := next.guard.TimeoutNow("x", raft.ServerAddress(old.cfg.Addr), &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &raft.TimeoutNowResponse{}); err == nil {
			t.Error("it takes leadership over")
		}
		disks[old.cfg.NodeID].fail.Store(nil)
		must(t, c.updateAnywhere(t.Context(), put("c")))
		if v := c.settled(); v.Node("b") == nil || v.Node("c") == nil {
			t.Error("updates are missing")
		}
	})
}

type testPathError struct{ err error }

func (e *testPathError) Error() string { return "write raft.db: " + e.err.Error() }
func (e *testPathError) Unwrap() error { return e.err }

// G5: before the disk is full, nothing new is taken in; what is there can go.
func TestLowDiskRefusesNewObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Uint64
		free.Store(100 << 30)
		c := newCluster(t, 1, func(c *Config) {
			c.hooks.free = func() (uint64, uint64, error) { return free.Load(), 1 << 40, nil }
		})
		defer c.close()
		s := c.leader()
		service := func(id string, replicas uint64) Plan {
			return func(*state.View) ([]state.Change, error) {
				svc, rev := statetest.Service(id, replicas)
				return []state.Change{state.Put(svc), state.Put(rev)}, nil
			}
		}
		must(t, s.Update(t.Context(), service("a", 1)))
		free.Store(1 << 30)
		time.Sleep(2 * diskCheck)
		if err := s.Update(t.Context(), service("b", 1)); !errdefs.IsResourceExhausted(err) {
			t.Errorf("new service = %v", err)
		}
		must(t, s.Update(t.Context(), service("a", 2)))
		must(t, s.Update(t.Context(), func(*state.View) ([]state.Change, error) {
			return []state.Change{state.Put(statetest.Task("t1", "a", 1, ""))}, nil
		}))
		must(t, s.Update(t.Context(), func(*state.View) ([]state.Change, error) {
			return []state.Change{state.Delete(state.KindService, "a")}, nil
		}))
		free.Store(100 << 30)
		time.Sleep(2 * diskCheck)
		must(t, s.Update(t.Context(), service("b", 1)))
	})
}

// A full disk must not end the process when raft stores its term.
func TestFullDiskDelaysTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &fullStable{StableStore: raft.NewInmemStore()}
		inner.fails.Store(3)
		s := &stableStore{StableStore: inner}
		must(t, s.SetUint64([]byte("CurrentTerm"), 9))
		if got, err := s.GetUint64([]byte("CurrentTerm")); got != 9 || err != nil {
			t.Errorf("CurrentTerm = %d, %v", got, err)
		}
	})
}

type fullStable struct {
	raft.StableStore
	fails atomic.Int64
}

func (f *fullStable) SetUint64(key []byte, value uint64) error {
	if f.fails.Add(-1) >= 0 {
		return &testPathError{syscall.ENOSPC}
	}
	return f.StableStore.SetUint64(key, value)
}

// An entry that this version does not know stops a manager: to skip it would
// make it differ from the others.
func TestUnknownEntryStopsTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		s := c.leader()
		must(t, s.Update(t.Context(), put("a")))
		s.await(t.Context(), s.raft.Load().Apply([]byte(`{"v":99,"first":2}`), 0))
		// The last one cannot learn that the entry is committed.
		c.until("a majority stops")(func() bool { return len(c.failed()) >= 2 }) // all three, if the leader has told of it before it stopped
		for _, s := range c.failed() {
			if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "format 99 is not known") {
				t.Errorf("Run = %v", err)
			}
			if got := s.View().Index(); got != 1 {
				t.Errorf("index %d", got)
			}
			if err := s.Update(t.Context(), put("b")); !errdefs.IsUnavailable(err) {
				t.Errorf("Update = %v", err)
			}
		}
		c.close()
	})
}

func (c *cluster) failed() (list []*Store) {
	for _, s := range c.stores {
		if s.Err() != nil {
			list = append(list, s)
		}
	}
	return list
}

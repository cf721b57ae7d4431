package raftstore

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"shoal/raftstore/state"
)

// manager is a store on a real disk and loopback TCP.
type manager struct {
	*Store
	cfg Config
}

func openManager(t testing.TB, cfg Config) *manager {
	t.Helper()
	addr := cfg.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	must(t, err)
	cfg.Addr = l.Addr().String()
	cfg.Stream = NewStream(l, func(addr string, limit time.Duration) (net.Conn, error) {
		return net.DialTimeout("tcp", addr, limit)
	})
	if cfg.Key == nil {
		cfg.Key = testKey()
	}
	cfg.Log = testLog()
	s, err := Open(cfg)
	must(t, err)
	return &manager{s, cfg}
}

// reopen closes the store and opens it from its files.
func (m *manager) reopen(t testing.TB) *manager {
	t.Helper()
	must(t, m.Close())
	return openManager(t, m.cfg)
}

// realCluster forms a cluster of n managers on real disks.
func realCluster(t testing.TB, n int) []*manager {
	t.Helper()
	var all []*manager
	for i := range n {
		m := openManager(t, Config{Dir: t.TempDir(), NodeID: "n" + strconv.Itoa(i+1)})
		t.Cleanup(func() { m.Close() })
		all = append(all, m)
		if i == 0 {
			must(t, m.Bootstrap(t.Context()))
			continue
		}
		must(t, all[0].AddNonvoter(t.Context(), m.cfg.NodeID, m.cfg.Addr))
		eventually(t, "caught up", func() bool { return all[0].Promote(t.Context(), m.cfg.NodeID) == nil })
	}
	return all
}

// eventually looks again at each tick, for at most 20 s.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 4000 {
		if cond() {
			return
		}
		<-tick.C
	}
	t.Fatalf("never: %s", what)
}

func TestRestartKeepsWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	m := openManager(t, Config{Dir: t.TempDir(), NodeID: "n1"})
	must(t, m.Bootstrap(t.Context()))
	for i := range 50 {
		must(t, m.Update(t.Context(), create("a"+strconv.Itoa(i))))
	}
	for range 3 {
		want := hash(t, m.View())
		m = m.reopen(t)
		eventually(t, "leads again", func() bool {
			return m.Update(t.Context(), func(*state.View) ([]state.Change, error) { return nil, nil }) == nil
		})
		if got := hash(t, m.View()); got != want {
			t.Fatalf("the state after a restart is another one")
		}
		must(t, m.Update(t.Context(), count))
	}
	must(t, m.Close())
}

func TestRestartFromSnapshotAndLog(t *testing.T) {
	t.Parallel()
	m := openManager(t, Config{Dir: t.TempDir(), NodeID: "n1", SnapshotEvery: 1 << 30, TrailingEntries: 5})
	must(t, m.Bootstrap(t.Context()))
	for range 3 {
		for range 20 {
			must(t, m.Update(t.Context(), count))
		}
		must(t, m.raft.Load().Snapshot().Error())
	}
	must(t, m.Update(t.Context(), count))
	if first, err := m.disk.logs.FirstIndex(); err != nil || first < 50 {
		t.Errorf("the log begins at %d, %v: it was not cut", first, err)
	}
	want := hash(t, m.View())
	m = m.reopen(t)
	eventually(t, "applied again", func() bool { return m.View().Index() == 61 })
	if got := hash(t, m.View()); got != want || counted(m.View()) != 61 {
		t.Errorf("counted %d, want 61", counted(m.View()))
	}
	if got := m.Stats().Snapshot; got < 60 {
		t.Errorf("snapshot at %d", got)
	}
	must(t, m.Close())
}

func TestThreeManagersOverTCP(t *testing.T) {
	t.Parallel()
	all := realCluster(t, 3)
	for range 100 {
		must(t, all[0].Update(t.Context(), count))
	}
	for _, m := range all {
		eventually(t, m.cfg.NodeID+" has it all", func() bool { return counted(m.View()) == 100 })
	}
	if _, err := all[0].Linearizable(t.Context()); err != nil {
		t.Error(err)
	}
	all[2] = all[2].reopen(t)
	t.Cleanup(func() { all[2].Close() })
	must(t, all[0].Update(t.Context(), count))
	eventually(t, "the restarted one follows", func() bool { return counted(all[2].View()) == 101 })
	for _, m := range all {
		must(t, m.Close())
	}
}

// A manager that is so far behind that the log no longer has what it lacks.
func TestNewManagerIsSentASnapshot(t *testing.T) {
	t.Parallel()
	m := openManager(t, Config{Dir: t.TempDir(), NodeID: "n1", TrailingEntries: 2})
	must(t, m.Bootstrap(t.Context()))
	for range 300 {
		must(t, m.Update(t.Context(), count))
		must(t, m.Update(t.Context(), put("x"+strconv.Itoa(counted(m.View())))))
	}
	must(t, m.raft.Load().Snapshot().Error())
	n := openManager(t, Config{Dir: t.TempDir(), NodeID: "n2"})
	must(t, m.AddNonvoter(t.Context(), "n2", n.cfg.Addr))
	eventually(t, "n2 has it all", func() bool { return n.View().Index() == m.View().Index() })
	if hash(t, n.View()) != hash(t, m.View()) {
		t.Error("the states differ")
	}
	eventually(t, "promoted", func() bool { return m.Promote(t.Context(), "n2") == nil })
	n = n.reopen(t)
	eventually(t, "n2 has it all again", func() bool { return n.View().Index() == m.View().Index() })
	must(t, n.Close())
	must(t, m.Close())
}

func TestSecondProcessIsTurnedAway(t *testing.T) {
	t.Parallel()
	m := openManager(t, Config{Dir: t.TempDir(), NodeID: "n1"})
	cfg := m.cfg
	_, err := openDisk(cfg, testLog(), nil)
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("openDisk = %v", err)
	}
	must(t, m.Close())
}

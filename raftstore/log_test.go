package raftstore

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lockedBuffer may be written to by several loggers.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.buf.String()), "\n")
}

// A manager that is away for ten minutes is two lines in the leader's log, not
// thousands.
func TestLogHasOneLinePerEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := map[string]*lockedBuffer{}
		c := newCluster(t, 3, func(cfg *Config) {
			logs[cfg.NodeID] = &lockedBuffer{}
			cfg.Log = slog.New(slog.NewTextHandler(logs[cfg.NodeID], nil))
		})
		defer c.close()
		lead := c.leader().cfg.NodeID
		away := "n3"
		before := len(logs[lead].lines())
		c.cut(away)
		time.Sleep(10 * time.Minute)
		c.heal(away)
		time.Sleep(time.Minute)
		lines := logs[lead].lines()[before:]
		if len(lines) > 3 || !strings.Contains(lines[0], `msg="manager lost"`) || !strings.Contains(lines[len(lines)-1], `msg="manager back"`) {
			t.Errorf("the leader logged %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
		}
		if lines := logs[away].lines(); len(lines) > 10 {
			t.Errorf("the one away logged %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
		}
	})
}

func TestMetricsAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		c := newCluster(t, 1, func(cfg *Config) { cfg.Registerer = reg })
		must(t, c.leader().Update(t.Context(), count))
		got := map[string]float64{}
		families, err := reg.Gather()
		must(t, err)
		for _, f := range families {
			m := f.GetMetric()[0]
			if h := m.GetHistogram(); h != nil {
				got[f.GetName()] = float64(h.GetSampleCount())
			} else {
				got[f.GetName()] = m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"shoal_raftstore_leading": 1, "shoal_raftstore_state_index": 1, "shoal_raftstore_managers": 1, "shoal_raftstore_pending_entries": 0,
			"shoal_raftstore_leader_changes": 1, "shoal_raftstore_entry_updates": 1, "shoal_raftstore_commit_seconds": 1,
		} {
			if value, ok := got[name]; !ok || value != want {
				t.Errorf("%s = %v, %v; want %v", name, value, ok, want)
			}
		}
		c.close()
		if families, err := reg.Gather(); err != nil || len(families) != 0 {
			t.Errorf("%d families after the store was closed, %v", len(families), err)
		}
	})
}

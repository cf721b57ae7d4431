package raftstore

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats is what there is to know about a store at one moment.
type Stats struct {
	Leading       bool
	Term          uint64
	LastIndex     uint64 // raft's, of the last entry of the log
	Commit        uint64 // raft's, of the last entry known to be committed
	Applied       uint64 // raft's, of the last entry handed to the state
	Pending       uint64 // committed entries that the state has not been handed
	Index         uint64 // state.View.Index
	Snapshot      uint64 // raft's, of the last entry in the newest snapshot; 0: none
	LeaderChanges uint64 // seen by this manager
	Peers         int
	FreeBytes     uint64
	DiskLow       bool
}

// Stats returns figures for people and alarms.
func (s *Store) Stats() Stats {
	r := s.raft.Load()
	t, _ := s.term.get()
	s.leader.mu.Lock()
	changes := s.leader.changes
	s.leader.mu.Unlock()
	st := Stats{
		Leading: t != nil, Term: r.CurrentTerm(), LastIndex: r.LastIndex(), Applied: r.AppliedIndex(), Commit: r.CommitIndex(),
		Index: s.View().Index(), LeaderChanges: changes, Peers: len(s.members()),
		FreeBytes: s.space.free.Load(), DiskLow: s.space.low.Load(),
	}
	st.Pending = st.Commit - min(st.Commit, st.Applied)
	if list, err := s.disk.snapshots.List(); err == nil && len(list) > 0 {
		st.Snapshot = list[0].Index
	}
	return st
}

// metrics are the figures that are counted rather than read.
type metrics struct {
	append  prometheus.Histogram
	commit  prometheus.Histogram
	updates prometheus.Histogram
}

func newMetrics() *metrics {
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 14)})
	}
	return &metrics{
		append: seconds("shoal_raftstore_append_seconds", "Writing entries to the log, with fsync."),
		commit: seconds("shoal_raftstore_commit_seconds", "From proposing an entry until it is applied on the leader."),
		updates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "shoal_raftstore_entry_updates", Help: "Updates in one entry.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
}

// appended counts a write to the log.
func (m *metrics) appended(took time.Duration) { m.append.Observe(took.Seconds()) }

// entry counts an entry of this leader.
func (m *metrics) entry(b *batch, took time.Duration) {
	m.commit.Observe(took.Seconds())
	m.updates.Observe(float64(len(b.updates)))
}

// gauges reads Stats when it is collected.
type gauges struct{ store *Store }

type gauge struct {
	name, help string
	value      func(Stats) float64
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func gaugeList() []gauge {
	return []gauge{
		{"leading", "1 on the leader.", func(s Stats) float64 { return flag(s.Leading) }},
		{"term", "Raft's term.", func(s Stats) float64 { return float64(s.Term) }},
		{"last_index", "Last entry of the log.", func(s Stats) float64 { return float64(s.LastIndex) }},
		{"commit_index", "Last committed entry.", func(s Stats) float64 { return float64(s.Commit) }},
		{"applied_index", "Last entry handed to the state.", func(s Stats) float64 { return float64(s.Applied) }},
		{"pending_entries", "Committed entries not yet handed to the state.", func(s Stats) float64 { return float64(s.Pending) }},
		{"state_index", "Last update that the state contains.", func(s Stats) float64 { return float64(s.Index) }},
		{"snapshot_index", "Last entry in the newest snapshot.", func(s Stats) float64 { return float64(s.Snapshot) }},
		{"leader_changes", "Leaders seen since the start.", func(s Stats) float64 { return float64(s.LeaderChanges) }},
		{"managers", "Managers of the cluster.", func(s Stats) float64 { return float64(s.Peers) }},
		{"disk_free_bytes", "Free space where the log is.", func(s Stats) float64 { return float64(s.FreeBytes) }},
		{"disk_low", "1 while new objects are refused for lack of space.", func(s Stats) float64 { return flag(s.DiskLow) }},
	}
}

func (g gauge) desc() *prometheus.Desc {
	return prometheus.NewDesc("shoal_raftstore_"+g.name, g.help, nil, nil)
}

// Describe implements prometheus.Collector.
func (gauges) Describe(out chan<- *prometheus.Desc) {
	for _, g := range gaugeList() {
		out <- g.desc()
	}
}

// Collect implements prometheus.Collector.
func (c gauges) Collect(out chan<- prometheus.Metric) {
	stats := c.store.Stats()
	for _, g := range gaugeList() {
		out <- prometheus.MustNewConstMetric(g.desc(), prometheus.GaugeValue, g.value(stats))
	}
}

func (s *Store) collectors() []prometheus.Collector {
	return []prometheus.Collector{gauges{s}, s.metrics.append, s.metrics.commit, s.metrics.updates}
}

func (s *Store) register() error {
	if s.cfg.Registerer == nil {
		return nil
	}
	for _, c := range s.collectors() {
		if err := s.cfg.Registerer.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (s *Store) unregister() {
	if s.cfg.Registerer == nil {
		return
	}
	for _, c := range s.collectors() {
		s.cfg.Registerer.Unregister(c)
	}
}

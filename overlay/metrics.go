package overlay

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	apply    prometheus.Histogram
	compared prometheus.Counter
	repaired prometheus.Counter
	failures prometheus.Counter
	waiting  prometheus.Gauge
	taken    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "shoal_overlay_apply_seconds", Help: "Time to bring a change of the fabric into effect.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		compared: prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_overlay_compared_total", Help: "Things in the kernel that were compared with what they should be."}),
		repaired: prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_overlay_repairs_total", Help: "Differences in the kernel that were found and repaired."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_overlay_failures_total", Help: "Rounds that the kernel did not take."}),
		waiting:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "shoal_overlay_waiting", Help: "Things that wait for a bridge of the engine."}),
		taken:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "shoal_overlay_ports_taken", Help: "Published ports that another process of the host holds."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.apply, m.compared, m.repaired, m.failures, m.waiting, m.taken} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("overlay: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) applied(f finding, err error, took time.Duration) {
	m.apply.Observe(took.Seconds())
	f.repaired = nil // made, not repaired
	m.audited(f, err)
}

func (m *metrics) audited(f finding, err error) {
	m.compared.Add(float64(f.compared))
	m.repaired.Add(float64(len(f.repaired)))
	if err != nil {
		m.failures.Inc()
		return
	}
	m.waiting.Set(float64(len(f.waiting)))
	m.taken.Set(float64(len(f.taken)))
}

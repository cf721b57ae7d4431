package scheduler

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	round     prometheus.Histogram
	decisions *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		round: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "shoal_scheduler_round_seconds", Help: "Time of one scheduling round, its commits included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shoal_scheduler_decisions_total", Help: "Tasks that were assigned, or found to fit nowhere.",
		}, []string{"result"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.round, m.decisions} {
		if err := r.Register(c); err != nil {
			return metrics{}, fmt.Errorf("scheduler metrics: %w", err)
		}
	}
	return m, nil
}

func (m metrics) count(decisions []decision) {
	for _, d := range decisions {
		if d.nodeID == "" {
			m.decisions.WithLabelValues("unsuitable").Inc()
		} else {
			m.decisions.WithLabelValues("assigned").Inc()
		}
	}
}

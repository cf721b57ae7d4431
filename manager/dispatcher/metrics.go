package dispatcher

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	statuses prometheus.Counter
	refused  prometheus.Counter
	downs    prometheus.Counter
	brake    prometheus.Gauge
	leaving  prometheus.Gauge
	unheard  prometheus.Counter
	withdraw prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, sessions, pulls func() int) (*metrics, error) {
	m := &metrics{
		statuses: prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_dispatcher_statuses_total", Help: "Task statuses taken from workers and committed."}),
		refused:  prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_dispatcher_refused_total", Help: "Sessions refused."}),
		downs:    prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_dispatcher_nodes_down_total", Help: "Nodes declared down by this manager."}),
		leaving:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "shoal_dispatcher_tasks_leaving", Help: "Tasks that stop once all nodes know it."}),
		unheard:  prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_dispatcher_withdraw_unheard_total", Help: "Tasks stopped without the word of a node that was silent."}),
		withdraw: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "shoal_dispatcher_withdraw_seconds", Help: "Time until all nodes knew that a task stops.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		brake: prometheus.NewGauge(prometheus.GaugeOpts{Name: "shoal_dispatcher_brake", Help: "1 while too many nodes have vanished at once for any to be declared down."}),
	}
	if r == nil {
		return m, nil
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shoal_dispatcher_sessions", Help: "Worker sessions that this manager holds."},
		func() float64 { return float64(sessions()) })
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shoal_dispatcher_pulls_waiting", Help: "Nodes that wait for their turn to pull an image, once for each image."},
		func() float64 { return float64(pulls()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.statuses, m.refused, m.downs, m.brake, m.leaving, m.unheard, m.withdraw, gauge, waiting} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

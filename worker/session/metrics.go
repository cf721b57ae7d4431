package session

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	open  prometheus.Gauge
	tries prometheus.Counter
}

func newMetrics(r prometheus.Registerer, unsent func() int) (metrics, error) {
	m := metrics{
		open:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "shoal_session_open", Help: "1 while this worker has a session with a manager."}),
		tries: prometheus.NewCounter(prometheus.CounterOpts{Name: "shoal_session_tries_total", Help: "Sessions that this worker has tried to open."}),
	}
	if r == nil {
		return m, nil
	}
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shoal_session_unsent_statuses", Help: "Task statuses that no manager has committed yet."},
		func() float64 { return float64(unsent()) })
	return m, errors.Join(r.Register(m.open), r.Register(m.tries), r.Register(queued))
}

package executor

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	up      prometheus.Gauge
	tasks   prometheus.Gauge
	orphans prometheus.Counter
	steps   *prometheus.HistogramVec

	withdrawTimeouts prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "shoal_executor_engine_up", Help: "1 while the engine of this node answers.",
		}),
		tasks: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "shoal_executor_tasks", Help: "Tasks that this node works on, ended ones that are kept included.",
		}),
		orphans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shoal_executor_orphans_total", Help: "Containers removed because no task accounted for them.",
		}),
		withdrawTimeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shoal_executor_withdraw_timeouts_total", Help: "Tasks stopped before all nodes had ceased to send to them.",
		}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "shoal_executor_step_seconds", Help: "Time that steps of tasks took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9), // 1 ms to 65 s
		}, []string{"op", "result"}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.up, m.tasks, m.orphans, m.steps, m.withdrawTimeouts} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics of the executor: %w", err)
	}
	return m, nil
}

func (m *metrics) observe(r result) {
	outcome := "ok"
	if r.err != nil {
		outcome = "error"
	}
	m.steps.WithLabelValues(string(r.op), outcome).Observe(time.Since(r.began).Seconds())
}

package network

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	networks prometheus.Gauge
	failures prometheus.Counter
	attach   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		networks: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "shoal_network_engine_networks", Help: "Networks of the cluster on this node's engine, the gateway network included.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shoal_network_apply_failures_total", Help: "Times that the kernel did not take what the managers say of networks.",
		}),
		attach: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "shoal_network_attach_seconds", Help: "Time to make the networks of a task ready.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8), // 1 ms to 16 s
		}),
	}
	if r == nil {
		return m, nil
	}
	if err := errors.Join(r.Register(m.networks), r.Register(m.failures), r.Register(m.attach)); err != nil {
		return nil, fmt.Errorf("register metrics of networks: %w", err)
	}
	return m, nil
}

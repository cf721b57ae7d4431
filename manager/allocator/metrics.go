package allocator

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"shoal/raftstore/state"
)

type metrics struct {
	given   *prometheus.CounterVec
	waiting prometheus.Gauge
	used    *prometheus.GaugeVec
	usable  *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		given:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shoal_allocator_given_total", Help: "Things that were given what they need, by kind: task, service, node; waiting: tasks that were told what they lack."}, []string{"kind"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "shoal_allocator_waiting", Help: "Things that wait for an address, a port or a place in the mesh."}),
		used:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shoal_allocator_addresses_used", Help: "IPv4 addresses of a network that tasks have."}, []string{"network"}),
		usable:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shoal_allocator_addresses_usable", Help: "IPv4 addresses that a network has to give."}, []string{"network"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.given, m.waiting, m.used, m.usable} {
		if err := r.Register(c); err != nil {
			return m, fmt.Errorf("allocator: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m metrics) count(out outcome) {
	for kind, n := range out.given {
		m.given.WithLabelValues(kind).Add(float64(n))
	}
}

func (m metrics) show(t *term) { m.waiting.Set(float64(len(t.waiting))) }

// usage tells how full the networks are. It counts, so it is not done for
// every change.
func (m metrics) usage(v *state.View) {
	m.used.Reset()
	m.usable.Reset()
	for n := range v.Networks() {
		used := 0
		for range v.TasksOfNetwork(n.ID) {
			used++
		}
		for _, family := range families(n) {
			if family[0].first.Is4() {
				m.usable.WithLabelValues(n.Spec.Name).Set(float64(usableOf(family)))
			}
		}
		m.used.WithLabelValues(n.Spec.Name).Set(float64(used))
	}
}

// clear takes back what only a leader can tell.
func (m metrics) clear() {
	m.waiting.Set(0)
	m.used.Reset()
	m.usable.Reset()
}

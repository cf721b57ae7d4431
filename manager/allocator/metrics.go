package allocator

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"shoal/raftstore/state"
)

type metrics struct {
	given   *prometheus.CounterVec
	waiting *prometheus.GaugeVec
	full    prometheus.Gauge
	used    *prometheus.GaugeVec
	usable  *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		given: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shoal_allocator_given_total", Help: "Things that were given what they need, by kind: task, service, node; waiting: tasks that were told what they lack; released: tasks called off that gave theirs back.",
		}, []string{"kind"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "shoal_allocator_waiting", Help: "Things that wait for an address, a port or a place in the mesh, by kind.",
		}, []string{"kind"}),
		full: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "shoal_allocator_full_networks", Help: "Networks without an address for the next task.",
		}),
		used: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "shoal_allocator_addresses_used", Help: "Addresses of a network that tasks, services and attached containers have.",
		}, []string{"network", "family"}),
		usable: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "shoal_allocator_addresses_usable", Help: "Addresses that a network has to give, used ones included.",
		}, []string{"network", "family"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.given, m.waiting, m.full, m.used, m.usable} {
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

// show tells how things stand. Of the networks, it looks at those that changed.
func (m metrics) show(v *state.View, t *term) {
	waiting := map[state.Kind]int{state.KindTask: len(t.waits.of), state.KindService: 0, state.KindNode: 0}
	for i := range t.stuck {
		waiting[i.kind]++
	}
	for kind, n := range waiting {
		m.waiting.WithLabelValues(string(kind)).Set(float64(n))
	}
	m.full.Set(float64(len(t.full)))
	u := t.usage
	for id := range u.touched { // first, as a new network may have the name of an old one
		if name, shown := u.names[id]; shown && v.Network(id) == nil {
			m.used.DeletePartialMatch(prometheus.Labels{"network": name})
			m.usable.DeletePartialMatch(prometheus.Labels{"network": name})
			delete(u.names, id)
		}
	}
	for id := range u.touched {
		if n := v.Network(id); n != nil {
			u.names[id] = n.Spec.Name
			m.network(n, u.used[id])
		}
	}
	clear(u.touched)
}

func (m metrics) network(n *state.Network, used *perFamily) {
	if used == nil {
		used = &perFamily{}
	}
	for _, family := range families(n) {
		name, count := "ipv6", used.v6
		if family[0].first.Is4() {
			name, count = "ipv4", used.v4
		}
		m.used.WithLabelValues(n.Spec.Name, name).Set(float64(count))
		m.usable.WithLabelValues(n.Spec.Name, name).Set(float64(usableOf(family)))
	}
}

// clear takes back what only a leader can tell.
func (m metrics) clear() {
	m.waiting.Reset()
	m.full.Set(0)
	m.used.Reset()
	m.usable.Reset()
}

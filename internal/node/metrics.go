package node

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func newRegistry(version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "shoal_build_info", Help: "1, labelled with the version of this binary.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// gatherers are where the process' metrics come from, and those of the roles
// that run now.
func (n *Node) gatherers() prometheus.Gatherers {
	gatherers := prometheus.Gatherers{n.registry}
	if m, _ := n.current(); m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		gatherers = append(gatherers, m.metrics...)
	}
	return gatherers
}

// serveMetrics answers /metrics, /healthz and /readyz on the metrics address,
// if one is set.
func (n *Node) serveMetrics(ctx context.Context) error {
	if n.cfg.MetricsAddr == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	listener, err := net.Listen("tcp", n.cfg.MetricsAddr)
	if err != nil {
		return fmt.Errorf("metrics address: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metricsHandler())
	mux.HandleFunc("GET /healthz", n.healthz)
	mux.HandleFunc("GET /readyz", n.readyz)
	return serve(ctx, listener, mux, nil)
}

func (n *Node) metricsHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(n.gatherers(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// healthz says that the process answers, whatever the cluster does.
func (n *Node) healthz(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

// readyz says whether this node can do its part: in a cluster, served by a
// manager, and on a manager with a leader in sight.
func (n *Node) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := n.notReady(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (n *Node) notReady() error {
	m, failure := n.current()
	switch {
	case m == nil:
		return errNotPart
	case failure != nil:
		return failure
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.session {
		return fmt.Errorf("no manager serves this node at the moment")
	}
	if m.inCharge != nil {
		return m.inCharge.Ready()
	}
	return nil
}

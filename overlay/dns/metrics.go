package dns

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	answered, nodata, nxdomain prometheus.Counter
	forwarded, refused, failed prometheus.Counter
	forwardSeconds             prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "shoal_dns_queries_total",
		Help: "Questions of containers, by what became of them: answered, nodata and nxdomain are ours, forwarded came back from a resolver, failed did not, refused should not have been asked.",
	}, []string{"result"})
	m := &metrics{
		answered: queries.WithLabelValues("answered"), nodata: queries.WithLabelValues("nodata"),
		nxdomain: queries.WithLabelValues("nxdomain"), forwarded: queries.WithLabelValues("forwarded"),
		refused: queries.WithLabelValues("refused"), failed: queries.WithLabelValues("failed"),
		forwardSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "shoal_dns_forward_seconds", Help: "Time until a resolver answered a forwarded question, or none did.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 4},
		}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(queries), reg.Register(m.forwardSeconds))
}

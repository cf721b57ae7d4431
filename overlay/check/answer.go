package check

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

// atOnce is how many peers are probed at a time.
const atOnce = 64

// Local is what a node's own part in a diagnosis needs.
type Local struct {
	NodeID  string
	Options Options // the cluster's subnets and pools are filled in
	Dial    Dial
	// Audit compares the data plane with what it should be; nil: there is none.
	Audit func(ctx context.Context) (compared int, differences []string, err error)
}

// Answer does what the leader asks: it looks at this host, has the data plane
// compared, and probes all peers, whose probes it answers in the meantime.
func Answer(ctx context.Context, r Request, l Local) Report {
	report := Report{NodeID: l.NodeID, Received: time.Now()}
	window, cancel := context.WithTimeout(ctx, r.Window)
	defer cancel()
	var g errgroup.Group
	if r.Self.Mesh.IsValid() {
		g.Go(func() error { return Echo(window, r.Self.Mesh, r.Pool) })
	}
	g.Go(func() error {
		o := l.Options
		o.Subnets, o.Pools = append(o.Subnets, r.Subnets...), append(o.Pools, r.Pools...)
		report.Findings = Host(window, o)
		return nil
	})
	g.Go(func() error {
		report.audit(window, l.Audit)
		return nil
	})
	links := make([]Link, len(r.Peers))
	var probes errgroup.Group
	probes.SetLimit(atOnce)
	for i, p := range r.Peers {
		probes.Go(func() error {
			links[i] = Probe(window, r, p, l.Dial)
			return nil
		})
	}
	_ = probes.Wait() // never fails
	if err := g.Wait(); err != nil && !errors.Is(err, window.Err()) {
		report.Findings = append(report.Findings, Finding{"mesh", Warn, err.Error(), "see whether the node's gateway network is there: docker network inspect shoal_gw"})
	}
	report.Links, report.Sent = links, time.Now()
	return report
}

func (r *Report) audit(ctx context.Context, audit func(context.Context) (int, []string, error)) {
	if audit == nil {
		return
	}
	var err error
	r.Audited = true
	if r.Compared, r.Differences, err = audit(ctx); err != nil {
		r.AuditError = err.Error()
	}
}

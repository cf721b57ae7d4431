//go:build docker

package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
	"shoal/integration/load"
)

// lossless is the service that no request may miss while it changes.
const lossless = "site"

// under is how a site is changed while requests come in.
type under struct {
	rate                    float64 // requests per second, through all hosts
	updates, scales, drains int
	replicas                uint64
}

// campaign is for tests that take long and want a machine of their own: they
// run with make chaos.
func campaign(t *testing.T) {
	t.Helper()
	if os.Getenv("SHOAL_CHAOS") == "" {
		t.Skip("a campaign: make chaos")
	}
}

// TestNothingIsDropped changes a service in every way that must not be noticed.
func TestNothingIsDropped(t *testing.T) {
	campaign(t)
	s := lossSite(t)
	r := changed(t, s, under{rate: 300, updates: 3, scales: 2, drains: 2, replicas: 4})
	t.Log(told(r))
	flawless(t, s, r)
}

// BenchmarkNothingIsDropped does so as often as the goal says. SHOAL_RATE is for
// machines that cannot send and serve 2,000 requests a second on five hosts.
func BenchmarkNothingIsDropped(b *testing.B) {
	rate := float64(number(b, "SHOAL_RATE", 2000))
	for b.Loop() {
		s := lossSite(b)
		start := time.Now()
		r := changed(b, s, under{rate: rate, updates: 50, scales: 20, drains: 20, replicas: 4})
		b.Logf("%s in %v", told(r), time.Since(start))
		flawless(b, s, r)
		b.ReportMetric(r.Rate(), "requests/s")
		b.ReportMetric(float64(r.Failed), "failed")
		b.ReportMetric(float64(r.Resets), "resets")
		b.ReportMetric(float64(r.Sent), "sent")
		b.ReportMetric(float64(r.Latency.P99.Milliseconds()), "p99-ms")
	}
}

func told(r load.Report) string {
	text := fmt.Sprintf("%d sent, %d failed, %d resets, %d retried, %d new and %d kept connections, p50 %v p99 %v max %v, clients %v, versions %v",
		r.Sent, r.Failed, r.Resets, r.Retried, r.Opened, r.Reused, r.Latency.P50, r.Latency.P99, r.Latency.Max, r.Clients, r.Versions)
	for i, f := range r.Failures {
		if i == 20 {
			break
		}
		text += fmt.Sprintf("\n%s %s from %s after %v, kept %v: %s", f.At.Format("15:04:05.000"), f.URL, f.From, f.Took, f.Kept, f.Err)
	}
	return text
}

func flawless(t testing.TB, s *site, r load.Report) {
	t.Helper()
	if r.Failed > 0 || r.Resets > 0 || r.Sent == 0 {
		t.Errorf("%d of %d requests failed, %d by a reset", r.Failed, r.Sent, r.Resets)
	}
	for client, n := range r.Clients {
		if client != netip.MustParseAddr(s.GatewayAddr()) {
			t.Errorf("%d requests were seen to come from %s, not from %s", n, client, s.GatewayAddr())
		}
	}
}

func lossSite(t testing.TB) *site {
	t.Helper()
	s := formSite(t, 5, 3)
	shoal(t, s.Host(1), "network", "create", "front")
	return s
}

// changed runs requests against all hosts while the service changes.
func changed(t testing.TB, s *site, u under) load.Report {
	t.Helper()
	via := s.Host(1)
	web := webSpec(t, s, lossless, u.replicas, "front")
	web.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Order: swarm.UpdateOrderStartFirst, FailureAction: swarm.UpdateFailureActionPause, Monitor: time.Second}
	create(t, s.shoal[via], web)
	s.converged(t, via, lossless, int(u.replicas)) //nolint:gosec // small
	end := s.asked(t, u.rate)
	for i := range u.updates {
		s.newVersion(t, via, 2+i, int(u.replicas)) //nolint:gosec // small
	}
	for range u.scales {
		scale(t, s.shoal[via], lossless, 2*u.replicas)
		s.converged(t, via, lossless, 2*int(u.replicas)) //nolint:gosec // small
		scale(t, s.shoal[via], lossless, u.replicas)
		s.converged(t, via, lossless, int(u.replicas)) //nolint:gosec // small
	}
	for i := range u.drains {
		s.drained(t, via, s.Hosts()[i%len(s.Hosts())], int(u.replicas)) //nolint:gosec // small
	}
	return end()
}

// asked sends requests to all hosts, once all of them answer, until end.
func (s *site) asked(t testing.TB, rate float64) (end func() load.Report) {
	t.Helper()
	var urls []string
	for _, h := range s.Hosts() {
		urls = append(urls, "http://"+net.JoinHostPort(h.Addr, "8080")+"/")
	}
	for _, url := range urls {
		waitFor(t, url+" to answer", func() (string, bool) {
			_, _, err := ask(t.Context(), url)
			return fmt.Sprint(err), err == nil
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan load.Report, 1)
	go func() {
		r, err := load.Run(ctx, load.Config{URLs: urls, Rate: rate, KeepAlive: 0.5, Timeout: 10 * time.Second})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	return func() load.Report {
		stop()
		return <-done
	}
}

// newVersion rolls an update out and waits for its end.
func (s *site) newVersion(t testing.TB, via *lab.Host, version, replicas int) {
	t.Helper()
	update(t, s.shoal[via], lossless, func(spec *swarm.ServiceSpec) {
		env := spec.TaskTemplate.ContainerSpec.Env
		if len(env) > 0 && strings.HasPrefix(env[len(env)-1], "VERSION=") {
			env = env[:len(env)-1]
		}
		spec.TaskTemplate.ContainerSpec.Env = append(env, "VERSION="+strconv.Itoa(version))
	})
	waitFor(t, fmt.Sprintf("version %d to be rolled out", version), func() (string, bool) {
		svc, _, err := s.shoal[via].ServiceInspectWithRaw(t.Context(), lossless, swarm.ServiceInspectOptions{})
		if err != nil || svc.UpdateStatus == nil {
			return fmt.Sprint(err), false
		}
		return fmt.Sprint(svc.UpdateStatus.State, svc.UpdateStatus.Message), svc.UpdateStatus.State == swarm.UpdateStateCompleted
	})
	s.converged(t, via, lossless, replicas)
}

// drained empties a node and lets it take tasks again.
func (s *site) drained(t testing.TB, via, h *lab.Host, replicas int) {
	t.Helper()
	id := s.nodeID(t, h)
	setAvailability(t, s.shoal[via], id, swarm.NodeAvailabilityDrain)
	waitFor(t, h.Name+" to be empty", func() (string, bool) {
		ids, err := s.running(t, lossless, h)
		return fmt.Sprint(ids, err), err == nil && len(ids) == 0
	})
	s.converged(t, via, lossless, replicas)
	setAvailability(t, s.shoal[via], id, swarm.NodeAvailabilityActive)
	s.awaitReady(t, via, len(s.Hosts()))
}

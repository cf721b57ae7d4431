//go:build docker

package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/integration/lab"
	"shoal/integration/load"
)

// BenchmarkUpdateHundred updates 100 tasks on five hosts, 10 at a time: from the
// request until a client sees 100 tasks of the new spec running and no other.
func BenchmarkUpdateHundred(b *testing.B) {
	var shoalTook time.Duration
	compare(b, 5, 3, func(b *testing.B, s *site) {
		api := s.shoal[s.Host(1)]
		web := spec("web", 100, "/bin/sleep", "1000000")
		web.UpdateConfig = &swarm.UpdateConfig{Parallelism: 10, Monitor: time.Second}
		create(b, api, web)
		awaitUpdated(b, api, "")
		var took []time.Duration
		for round := range number(b, "SHOAL_ROUNDS", 3) {
			version := fmt.Sprint("VERSION=", round)
			daemons, engines := s.cpu(b)
			start := time.Now()
			update(b, api, "web", func(spec *swarm.ServiceSpec) { spec.TaskTemplate.ContainerSpec.Env = []string{version} })
			tasks := awaitUpdated(b, api, version)
			took = append(took, time.Since(start))
			moreDaemons, moreEngines := s.cpu(b)
			b.Logf("%.1f s: tasks made and running after %s; CPU of daemons %.1f s, of engines %.1f s", took[round].Seconds(), timeline(start, tasks, version),
				moreDaemons-daemons, moreEngines-engines)
			awaitState(b, api, "web", swarm.UpdateStateCompleted)
			removeExited(b, s)
		}
		b.ReportMetric(median(took).Seconds(), "s")
		if s.swarm && shoalTook > 0 {
			b.ReportMetric(shoalTook.Seconds()/median(took).Seconds(), "shoal/swarm")
		}
		if !s.swarm {
			shoalTook = median(took)
		}
	})
}

// cpu is the CPU time in seconds that the daemons and the engines of a site have
// taken, with what they have started and outlived.
func (s *site) cpu(b *testing.B) (daemons, engines float64) {
	b.Helper()
	for _, h := range s.Hosts() {
		if !s.swarm {
			daemons += cpuOf(b, h.Daemon())
		}
		engines += cpuOf(b, h.Engine())
	}
	return daemons, engines
}

func cpuOf(b *testing.B, p *lab.Process) (seconds float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	ok(b, err)
	_, rest, _ := strings.Cut(string(text), ") ") // fields from the third on
	for _, field := range strings.Fields(rest)[11:15] {
		ticks, err := strconv.ParseFloat(field, 64)
		ok(b, err)
		seconds += ticks / 100
	}
	return seconds
}

// awaitUpdated waits until 100 tasks of web run, all with env.
func awaitUpdated(b *testing.B, api *client.Client, env string) (tasks []swarm.Task) {
	b.Helper()
	ok(b, lab.WaitFor(b.Context(), 5*time.Minute, "100 tasks with "+env, func() (string, bool) {
		pass(b, 250*time.Millisecond) // a list of tasks costs what a container does
		var err error
		tasks, err = tasksOf(b, api, "web")
		running, others := 0, 0
		for _, t := range tasks {
			switch {
			case t.Status.State != swarm.TaskStateRunning:
			case strings.Join(t.Spec.ContainerSpec.Env, "") == env:
				running++
			default:
				others++
			}
		}
		return fmt.Sprint(running, others, err), running == 100 && others == 0
	}))
	return tasks
}

func awaitState(b *testing.B, api *client.Client, service string, state swarm.UpdateState) {
	b.Helper()
	ok(b, lab.WaitFor(b.Context(), 5*time.Minute, fmt.Sprintf("the update of %s to be %s", service, state), func() (string, bool) {
		s, _, err := api.ServiceInspectWithRaw(b.Context(), service, swarm.ServiceInspectOptions{})
		return fmt.Sprint(s.UpdateStatus, err), err == nil && s.UpdateStatus != nil && s.UpdateStatus.State == state
	}))
}

// timeline says when every tenth of an update's tasks was made, and ran.
func timeline(start time.Time, tasks []swarm.Task, env string) string {
	var made, running []time.Duration
	for _, t := range tasks {
		if t.Status.State == swarm.TaskStateRunning && strings.Join(t.Spec.ContainerSpec.Env, "") == env {
			made = append(made, t.CreatedAt.Sub(start))
			running = append(running, t.Status.Timestamp.Sub(start))
		}
	}
	slices.Sort(made)
	slices.Sort(running)
	var text strings.Builder
	for i := 9; i < len(made); i += 10 {
		fmt.Fprintf(&text, " %.1f/%.1f", made[i].Seconds(), running[i].Seconds())
	}
	return text.String()
}

// BenchmarkSecretRotation sets a secret 200 times while requests come in, once
// every SHOAL_EVERY milliseconds. The service that has it follows, start-first;
// what comes while its update is under way goes into the next tasks.
func BenchmarkSecretRotation(b *testing.B) {
	s := formSite(b, 5, 3)
	b.ReportMetric(0, "ns/op")
	via := s.Host(1)
	shoal(b, via, "network", "create", "front")
	value := filepath.Join(b.TempDir(), "value")
	ok(b, os.WriteFile(value, []byte("first"), 0o600))
	shoal(b, via, "secret", "create", "key", value)
	web := webSpec(b, s, "web", 3, "front")
	web.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Order: swarm.UpdateOrderStartFirst, Monitor: time.Second}
	secret, _, err := s.shoal[via].SecretInspectWithRaw(b.Context(), "key")
	ok(b, err)
	web.TaskTemplate.ContainerSpec.Secrets = []*swarm.SecretReference{{
		SecretID: secret.ID, SecretName: "key", File: &swarm.SecretReferenceFileTarget{Name: "key", UID: "0", GID: "0", Mode: 0o444},
	}}
	create(b, s.shoal[via], web)
	s.converged(b, via, "web", 3)

	requests := s.underLoad(b, float64(number(b, "SHOAL_RATE", 200)))
	start := time.Now()
	rotations := number(b, "SHOAL_ROTATIONS", 200)
	every := time.NewTicker(time.Duration(number(b, "SHOAL_EVERY", 1000)) * time.Millisecond)
	defer every.Stop()
	for i := range rotations {
		ok(b, os.WriteFile(value, fmt.Append(nil, "value ", i), 0o600))
		shoal(b, via, "secret", "set", "--detach", "key", value)
		<-every.C
	}
	set := time.Since(start)
	awaitState(b, s.shoal[via], "web", swarm.UpdateStateCompleted)
	s.converged(b, via, "web", 3)
	r := requests()
	b.Logf("%d rotations in %v, all of it %v: %s", rotations, set, time.Since(start), told(r))
	flawless(b, s, r)
	b.ReportMetric(float64(rotations), "rotations")
	b.ReportMetric(r.Rate(), "requests/s")
	b.ReportMetric(float64(r.Failed), "failed")
	b.ReportMetric(float64(r.Resets), "resets")
	b.ReportMetric(float64(r.Latency.P99.Milliseconds()), "p99-ms")
}

// underLoad asks port 8080 of all hosts, once each has answered, until the
// function that it returns is called.
func (s *site) underLoad(t testing.TB, rate float64) (stop func() load.Report) {
	t.Helper()
	var urls []string
	for _, h := range s.Hosts() {
		url := "http://" + net.JoinHostPort(h.Addr, "8080") + "/"
		urls = append(urls, url)
		waitFor(t, url+" to answer", func() (string, bool) {
			_, _, err := ask(t.Context(), url)
			return fmt.Sprint(err), err == nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var report load.Report
	var client sync.WaitGroup
	client.Go(func() {
		r, err := load.Run(ctx, load.Config{URLs: urls, Rate: rate, KeepAlive: 0.5, Timeout: 10 * time.Second})
		if err != nil {
			t.Error(err)
		}
		report = r
	})
	return func() load.Report {
		cancel()
		client.Wait()
		return report
	}
}

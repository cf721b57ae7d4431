//go:build docker

package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/integration/lab"
)

// rounds is how often a fault is repeated: on Docker Swarm, which takes ten
// times as long, less often.
func (s *site) rounds() int {
	if s.swarm {
		return 3
	}
	return 20
}

// BenchmarkLeaderCut cuts the leader off while clients write through the
// others.
func BenchmarkLeaderCut(b *testing.B) {
	compare(b, 3, 3, func(b *testing.B, s *site) {
		writeGaps(b, s, func(h *lab.Host) error { return h.Cut() }, func(h *lab.Host) error { return h.Heal() })
	})
}

// BenchmarkLeaderKill kills the leader while clients write through the others.
func BenchmarkLeaderKill(b *testing.B) {
	compare(b, 3, 3, func(b *testing.B, s *site) {
		writeGaps(b, s, func(h *lab.Host) error {
			if s.swarm {
				return h.Engine().Kill9()
			}
			return h.Daemon().Kill9()
		}, func(h *lab.Host) error {
			if s.swarm {
				return h.StartEngine(b.Context())
			}
			restartDaemon(b, h)
			return nil
		})
	})
}

// writeGaps reports the longest time without an acknowledgement of each round,
// and what the clients had to suffer.
func writeGaps(b *testing.B, s *site, harm, heal func(*lab.Host) error) {
	b.Helper()
	var gaps []time.Duration
	failed, lost, doubled, acked := 0, 0, 0, 0
	for round := range s.rounds() {
		leader := s.leader(b, s.Host(1))
		survivors := others(s.Hosts(), leader)
		var apis []*client.Client
		for _, h := range survivors {
			apis = append(apis, s.shoal[h], s.shoal[h])
		}
		w := startWriters(b.Context(), fmt.Sprint("r", round), apis...)
		ok(b, w.await(b.Context(), 30))
		ok(b, harm(leader))
		ok(b, w.await(b.Context(), 30))
		gaps = append(gaps, w.stop())
		ok(b, heal(leader))
		s.awaitReady(b, survivors[0], len(s.Hosts()))
		l, d, err := w.check(b.Context(), s.shoal[survivors[0]])
		ok(b, err)
		for _, err := range w.failed {
			b.Logf("round %d: %v", round, err)
		}
		failed, lost, doubled, acked = failed+len(w.failed), lost+l, doubled+d, acked+len(w.acked)
	}
	b.Logf("%d rounds, %d acknowledged writes, gaps %v", s.rounds(), acked, gaps)
	b.ReportMetric(ms(median(gaps)), "p50-ms")
	b.ReportMetric(ms(slices.Max(gaps)), "max-ms")
	b.ReportMetric(float64(failed), "failed")
	b.ReportMetric(float64(lost), "lost")
	b.ReportMetric(float64(doubled), "doubled")
}

// BenchmarkWorkerCut takes the time from the moment a worker is cut off until
// its tasks run elsewhere.
func BenchmarkWorkerCut(b *testing.B) {
	compare(b, 5, 3, func(b *testing.B, s *site) {
		via, gone := s.Host(1), s.Host(5)
		create(b, s.shoal[via], spec("web", replicas, "/bin/sleep", "1000000"))
		s.converged(b, via, "web", replicas)
		var times []time.Duration
		for range 3 {
			id := s.nodeID(b, gone)
			start := time.Now()
			ok(b, gone.Cut())
			waitFor(b, "the tasks to run elsewhere", func() (string, bool) {
				tasks, err := tasksOf(b, s.shoal[via], "web")
				running := 0
				for _, task := range tasks {
					if task.Status.State == swarm.TaskStateRunning && task.NodeID != id {
						running++
					}
				}
				return fmt.Sprint(running, err), running == replicas
			})
			times = append(times, time.Since(start))
			ok(b, gone.Heal())
			s.awaitReady(b, via, 5)
			s.converged(b, via, "web", replicas)
			// Tasks do not move back by themselves: start as at first.
			ok(b, s.shoal[via].ServiceRemove(b.Context(), "web"))
			s.awaitEmpty(b, "web")
			create(b, s.shoal[via], spec("web", replicas, "/bin/sleep", "1000000"))
			s.converged(b, via, "web", replicas)
		}
		b.ReportMetric(median(times).Seconds(), "p50-s")
		b.ReportMetric(slices.Max(times).Seconds(), "max-s")
	})
}

// BenchmarkIdleDaemon says what a daemon takes when nothing happens, on a
// cluster of five hosts that runs ten tasks.
func BenchmarkIdleDaemon(b *testing.B) {
	const idle = 20 * time.Second
	s := formSite(b, 5, 3)
	create(b, s.shoal[s.Host(1)], spec("web", replicas, "/bin/sleep", "1000000"))
	s.converged(b, s.Host(1), "web", replicas)
	pass(b, 3*time.Second)
	before := map[*lab.Host]float64{}
	for _, h := range s.Hosts() {
		before[h] = metric(b, h, "process_cpu_seconds_total")
	}
	pass(b, idle)
	for role, hosts := range map[string][]*lab.Host{"manager": s.Hosts()[:3], "worker": s.Hosts()[3:]} {
		memory, cpu := 0.0, 0.0
		for _, h := range hosts {
			memory = max(memory, metric(b, h, "process_resident_memory_bytes")/(1<<20))
			cpu = max(cpu, (metric(b, h, "process_cpu_seconds_total")-before[h])/idle.Seconds()*100)
		}
		b.ReportMetric(memory, "MiB-"+role)
		b.ReportMetric(cpu, "%core-"+role)
	}
	b.ReportMetric(0, "ns/op")
}

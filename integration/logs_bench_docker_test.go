//go:build docker

package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// logTime is how long logs are followed.
const logTime = 10 * time.Second

// BenchmarkServiceLogs follows a service of 100 tasks on five hosts, each of which
// writes lines of 100 bytes as fast as it can: what one client gets through one
// manager, what that manager's memory comes to, and what the five engines give
// to five clients.
func BenchmarkServiceLogs(b *testing.B) {
	compare(b, 5, 3, func(b *testing.B, s *site) {
		via := s.Host(1)
		api := s.shoal[via]
		talk := spec("talk", 100, "/bin/web", "talk", "100")
		talk.TaskTemplate.LogDriver = &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "20m", "max-file": "2"}}
		create(b, api, talk)
		ok(b, lab.WaitFor(b.Context(), 5*time.Minute, "100 tasks", func() (string, bool) {
			ids, err := s.running(b, "talk", s.Hosts()...)
			return fmt.Sprint(len(ids), err), len(ids) == 100
		}))
		manager := via.Daemon()
		if s.swarm {
			manager = via.Engine()
		}
		before := memory(b, manager)
		logs, err := api.ServiceLogs(b.Context(), "talk", container.LogsOptions{ShowStdout: true, Follow: true, Tail: "0"})
		ok(b, err)
		rate, most := follow(b, manager, logs)
		b.ReportMetric(rate, "MB/s")
		b.ReportMetric(before, "MiB-before")
		b.ReportMetric(most, "MiB-most")
		b.ReportMetric(s.enginesAlone(b), "MB/s-engines-alone")
	})
}

// follow reads for a while, and returns the rate in MB/s, and the most memory
// that a process had meanwhile, in MiB.
func follow(b *testing.B, p *lab.Process, streams ...io.ReadCloser) (rate, most float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), benchTime(b, logTime))
	defer cancel()
	var total atomic.Int64
	var readers sync.WaitGroup
	start := time.Now()
	for _, stream := range streams {
		stop := context.AfterFunc(ctx, func() { stream.Close() })
		defer stop()
		readers.Go(func() {
			for buf := make([]byte, 256<<10); ; {
				n, err := stream.Read(buf)
				total.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; {
		select {
		case <-tick.C:
			most = max(most, memory(b, p))
		case <-ctx.Done():
			tick.Stop()
		}
	}
	took := time.Since(start)
	rate = float64(total.Load()) / 1e6 / took.Seconds()
	readers.Wait()
	return rate, most
}

// enginesAlone follows the same containers, each through its own engine.
func (s *site) enginesAlone(b *testing.B) float64 {
	b.Helper()
	var streams []io.ReadCloser
	for _, h := range s.Hosts() {
		ids, err := s.running(b, "talk", h)
		ok(b, err)
		for _, id := range ids {
			logs, err := s.engines[h].ContainerLogs(b.Context(), id, container.LogsOptions{ShowStdout: true, Follow: true, Tail: "0"})
			ok(b, err)
			streams = append(streams, logs)
		}
	}
	rate, _ := follow(b, s.Host(1).Engine(), streams...)
	return rate
}

// memory is what a process has resident, in MiB.
func memory(b *testing.B, p *lab.Process) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	ok(b, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			ok(b, err)
			return kib / 1024
		}
	}
	b.Fatalf("no VmRSS of %d", p.PID())
	return 0
}

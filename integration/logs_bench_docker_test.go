//go:build docker

package integration

import (
	"context"
	"fmt"
	"io"
	"math"
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

// logTime is how long logs are followed, at most.
const logTime = 10 * time.Second

// BenchmarkServiceLogs follows a service of 100 tasks on five hosts that write
// lines of 100 bytes: what one client gets through one manager, what that
// manager's memory comes to, and what the five engines give the same client. In
// "live", they write as fast as they can, and take the CPU from whoever reads;
// in "written" they have written 2 MB each.
func BenchmarkServiceLogs(b *testing.B) {
	b.Run("live", func(b *testing.B) {
		compare(b, 5, 3, func(b *testing.B, s *site) { s.benchLogs(b, "100") })
	})
	b.Run("written", func(b *testing.B) {
		compare(b, 5, 3, func(b *testing.B, s *site) { s.benchLogs(b, "100", "20000") })
	})
}

// benchLogs measures the logs of `web talk args`.
func (s *site) benchLogs(b *testing.B, args ...string) {
	b.Helper()
	via := s.Host(1)
	api := s.shoal[via]
	talk := spec("talk", 100, append([]string{"/bin/web", "talk"}, args...)...)
	talk.TaskTemplate.LogDriver = &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "20m", "max-file": "2"}}
	create(b, api, talk)
	ok(b, lab.WaitFor(b.Context(), 5*time.Minute, "100 tasks", func() (string, bool) {
		pass(b, 250*time.Millisecond)
		ids, err := s.running(b, "talk", s.Hosts()...)
		return fmt.Sprint(len(ids), err), len(ids) == 100
	}))
	tail, most := "0", int64(math.MaxInt64)
	if len(args) > 1 {
		tail, most = "all", 100*20000*(8+100)
		pass(b, 5*time.Second) // until the engines have written it down
	}
	manager := via.Daemon()
	if s.swarm {
		manager = via.Engine()
	}
	before := memory(b, manager)
	logs, err := api.ServiceLogs(b.Context(), "talk", container.LogsOptions{ShowStdout: true, Follow: true, Tail: tail})
	ok(b, err)
	rate, peak := follow(b, manager, most, logs)
	alone, _ := follow(b, via.Engine(), most, s.engineLogs(b, tail)...)
	b.ReportMetric(rate, "MB/s")
	b.ReportMetric(alone, "MB/s-engines-alone")
	b.ReportMetric(rate/alone, "ratio")
	b.ReportMetric(before, "MiB-before")
	b.ReportMetric(peak, "MiB-peak")
}

// follow reads for a while or until it has so many bytes, and returns the rate in
// MB/s, and the most memory that a process had meanwhile, in MiB.
func follow(b *testing.B, p *lab.Process, most int64, streams ...io.ReadCloser) (rate, peak float64) {
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
				if total.Add(int64(n)) >= most {
					cancel()
				}
				if err != nil {
					return
				}
			}
		})
	}
	for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; {
		select {
		case <-tick.C:
			peak = max(peak, memory(b, p))
		case <-ctx.Done():
			tick.Stop()
		}
	}
	rate = float64(total.Load()) / 1e6 / time.Since(start).Seconds()
	readers.Wait()
	return rate, peak
}

// engineLogs follows the same containers, each through its own engine.
func (s *site) engineLogs(b *testing.B, tail string) (streams []io.ReadCloser) {
	b.Helper()
	for _, h := range s.Hosts() {
		ids, err := s.running(b, "talk", h)
		ok(b, err)
		for _, id := range ids {
			logs, err := s.engines[h].ContainerLogs(b.Context(), id, container.LogsOptions{ShowStdout: true, Follow: true, Tail: tail})
			ok(b, err)
			streams = append(streams, logs)
		}
	}
	return streams
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

//go:build docker

package integration

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/integration/lab"
)

// compare runs a benchmark on a lab where shoal has formed the cluster, and on
// one where Docker Swarm has. Each runs once: it takes its own times.
func compare(b *testing.B, hosts, managers int, run func(b *testing.B, s *site)) {
	b.Helper()
	b.Run("shoal", func(b *testing.B) {
		run(b, formSite(b, hosts, managers))
		b.ReportMetric(0, "ns/op") // says nothing here
	})
	b.Run("swarm", func(b *testing.B) {
		s := newSite(b, hosts)
		ok(b, s.FormSwarm(b.Context(), managers))
		s.shoal, s.swarm = s.engines, true
		s.awaitReady(b, s.Host(1), hosts)
		run(b, s)
		b.ReportMetric(0, "ns/op")
	})
}

// median sorts a list.
func median[T cmp.Ordered](list []T) T {
	slices.Sort(list)
	return list[len(list)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkServiceCreate counts how many services clients of three managers
// can create in a second.
func BenchmarkServiceCreate(b *testing.B) {
	compare(b, 3, 3, func(b *testing.B, s *site) {
		leader := s.leader(b, s.Host(1))
		b.ReportMetric(createRate(b, "one", s.shoal[leader]), "creates/s-1-client")
		var apis []*client.Client
		for i := range 32 {
			h := s.Host(1 + i%3)
			apis = append(apis, dial(b, h.ShoalSocket()))
			if s.swarm {
				apis[i] = dial(b, h.DockerSocket())
			}
		}
		b.ReportMetric(createRate(b, "many", apis...), "creates/s-32-clients")
	})
}

// createRate creates services through every one of apis for some seconds.
func createRate(b *testing.B, prefix string, apis ...*client.Client) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	var done atomic.Int64
	var clients sync.WaitGroup
	start := time.Now()
	for i, api := range apis {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := api.ServiceCreate(ctx, spec(fmt.Sprintf("%s-%d-%d", prefix, i, n), 0), swarm.ServiceCreateOptions{})
				if err != nil && ctx.Err() == nil {
					b.Error(err)
					return
				}
				if err == nil {
					done.Add(1)
				}
			}
		})
	}
	clients.Wait()
	return float64(done.Load()) / time.Since(start).Seconds()
}

// BenchmarkServiceList lists 300 services.
func BenchmarkServiceList(b *testing.B) {
	compare(b, 3, 3, func(b *testing.B, s *site) {
		api := s.shoal[s.leader(b, s.Host(1))]
		for i := range 300 {
			create(b, api, spec(fmt.Sprint("web-", i), 0))
		}
		var times []time.Duration
		for range 200 {
			start := time.Now()
			list, err := api.ServiceList(b.Context(), swarm.ServiceListOptions{})
			if err != nil || len(list) != 300 {
				b.Fatalf("%d services, err %v", len(list), err)
			}
			times = append(times, time.Since(start))
		}
		b.ReportMetric(ms(median(times)), "p50-ms")
	})
}

// BenchmarkHundredTasks scales a service from 1 to 100 tasks on five engines,
// and starts as many containers straight through the engines.
func BenchmarkHundredTasks(b *testing.B) {
	compare(b, 5, 3, func(b *testing.B, s *site) {
		api := s.shoal[s.Host(1)]
		create(b, api, spec("web", 1, "/bin/sleep", "1000000"))
		s.converged(b, s.Host(1), "web", 1)
		var cluster, alone []time.Duration
		for range 3 {
			alone = append(alone, startAlone(b, s, 99))
			start := time.Now()
			scale(b, api, "web", 100)
			awaitRunning(b, api, "web", 100)
			cluster = append(cluster, time.Since(start))
			scale(b, api, "web", 1)
			s.converged(b, s.Host(1), "web", 1)
			removeExited(b, s)
		}
		b.ReportMetric(median(cluster).Seconds(), "s")
		b.ReportMetric(median(alone).Seconds(), "s-engines-alone")
		b.ReportMetric(median(cluster).Seconds()/median(alone).Seconds(), "ratio")
	})
}

// awaitRunning waits until n tasks run: what a client can see.
func awaitRunning(b *testing.B, api *client.Client, service string, n int) {
	b.Helper()
	waitFor(b, fmt.Sprintf("%d tasks of %s", n, service), func() (string, bool) {
		tasks, err := tasksOf(b, api, service)
		running := 0
		for _, task := range tasks {
			if task.Status.State == swarm.TaskStateRunning {
				running++
			}
		}
		return fmt.Sprint(running, err), running == n
	})
}

// startAlone starts n containers, spread over all engines and four at a time
// on each, and removes them when the clock has stopped.
func startAlone(b *testing.B, s *site, n int) time.Duration {
	b.Helper()
	var mu sync.Mutex
	ids := map[*lab.Host][]string{}
	var starters sync.WaitGroup
	start := time.Now()
	queues := map[*lab.Host]chan struct{}{}
	for _, h := range s.Hosts() {
		queue := make(chan struct{}, n)
		queues[h] = queue
		for range 4 {
			starters.Go(func() {
				for range queue {
					id := startContainer(b, s.engines[h])
					mu.Lock()
					ids[h] = append(ids[h], id)
					mu.Unlock()
				}
			})
		}
	}
	for i := range n {
		queues[s.Host(1+i%len(s.Hosts()))] <- struct{}{}
	}
	for _, queue := range queues {
		close(queue)
	}
	starters.Wait()
	took := time.Since(start)
	var removers sync.WaitGroup
	for h, list := range ids {
		removers.Go(func() {
			for _, id := range list {
				removeContainer(b, s.engines[h], id)
			}
		})
	}
	removers.Wait()
	return took
}

func startContainer(b *testing.B, engine *client.Client) string {
	b.Helper()
	c, err := engine.ContainerCreate(b.Context(), &container.Config{Image: image, Cmd: []string{"/bin/sleep", "1000000"}}, nil, nil, nil, "")
	if err == nil {
		err = engine.ContainerStart(b.Context(), c.ID, container.StartOptions{})
	}
	if err != nil {
		b.Error(err)
	}
	return c.ID
}

func removeContainer(b *testing.B, engine *client.Client, id string) {
	b.Helper()
	if err := engine.ContainerRemove(b.Context(), id, container.RemoveOptions{Force: true}); err != nil {
		b.Error(err)
	}
}

// removeExited removes what finished tasks left, so that rounds are alike.
func removeExited(b *testing.B, s *site) {
	b.Helper()
	for _, h := range s.Hosts() {
		list, err := s.engines[h].ContainerList(b.Context(), container.ListOptions{All: true})
		ok(b, err)
		for _, c := range list {
			if c.State == container.StateExited {
				_ = s.engines[h].ContainerRemove(b.Context(), c.ID, container.RemoveOptions{}) // it may be on its way out
			}
		}
	}
}

// BenchmarkFirstTask takes the time from the request to the first task that a
// client sees running, and that of a container without a cluster.
func BenchmarkFirstTask(b *testing.B) {
	compare(b, 5, 3, func(b *testing.B, s *site) {
		api := s.shoal[s.leader(b, s.Host(1))]
		var task, run []time.Duration
		for i := range 15 {
			name := fmt.Sprint("web-", i)
			start := time.Now()
			create(b, api, spec(name, 1, "/bin/sleep", "1000000"))
			awaitRunning(b, api, name, 1)
			task = append(task, time.Since(start))
			ok(b, api.ServiceRemove(b.Context(), name))
			s.awaitEmpty(b, name)

			engine := s.engines[s.Host(1+i%5)]
			start = time.Now()
			id := startContainer(b, engine)
			run = append(run, time.Since(start))
			removeContainer(b, engine, id)
		}
		b.ReportMetric(ms(median(task)), "ms")
		b.ReportMetric(ms(median(run)), "ms-docker-run")
		b.ReportMetric(ms(median(task))/ms(median(run)), "ratio")
	})
}

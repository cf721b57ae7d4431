package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"golang.org/x/sync/errgroup"

	"shoal/cli/format"
)

func (s *shell) statsCommand() *command {
	var (
		once bool
		form string
		f    = &flags{}
	)
	f.add((*templateValue)(&form), "string", "format", "Print with TEMPLATE (Go template) or \"json\"")
	f.toggle(&once, "no-stream", "Show one sample and end")
	return &command{
		name: "stats", operands: "[OPTIONS] TASK|CONTAINER [TASK|CONTAINER...]", short: "Show what tasks' containers use, wherever they run",
		long:  "A task is named by its name, its ID, or its slot: web.1. It goes on, once a second, until Ctrl-C.",
		flags: f, min: 1, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			b := &statsBoard{rows: make([]format.Stats, len(args))}
			for i, ref := range args {
				b.rows[i] = format.Stats{Container: ref, Name: "--"}
			}
			return s.stats(ctx, api, b, args, form, once)
		},
	}
}

// statsBoard is the last sample of each container.
type statsBoard struct {
	mu   sync.Mutex
	rows []format.Stats
}

func (b *statsBoard) set(i int, row format.Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[i] = row
}

func (b *statsBoard) all() []format.Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]format.Stats(nil), b.rows...)
}

func (s *shell) stats(ctx context.Context, api *client.Client, b *statsBoard, refs []string, form string, once bool) error {
	g, inner := errgroup.WithContext(ctx)
	for i, ref := range refs {
		g.Go(func() error { return sample(inner, api, ref, !once, func(row format.Stats) { b.set(i, row) }) })
	}
	show := func() error { return format.Write(s.out, format.StatsTable(), form, false, b.all()) }
	if once {
		if err := g.Wait(); err != nil {
			return err
		}
		return show()
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended: // all containers have
			return err
		case <-tick.C:
			if form == "" && s.terminal().outIs {
				fmt.Fprint(s.out, "\033[2J\033[H") // the screen anew
			}
			if err := show(); err != nil {
				return err
			}
		}
	}
}

// sample reads the samples of one container, until it ends.
func sample(ctx context.Context, api *client.Client, ref string, stream bool, take func(format.Stats)) error {
	answer, err := api.ContainerStats(ctx, ref, stream)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	in := json.NewDecoder(answer.Body)
	for {
		var v container.StatsResponse
		if err := in.Decode(&v); err != nil {
			if ctx.Err() != nil || stream { // it has ended, or we have
				return ctx.Err()
			}
			return fmt.Errorf("statistics of %s: %w", ref, err)
		}
		take(statsRow(ref, v))
		if !stream {
			return nil
		}
	}
}

func statsRow(ref string, v container.StatsResponse) format.Stats {
	row := format.Stats{Container: ref, Name: strings.TrimPrefix(v.Name, "/"), ID: v.ID, CPUPerc: fmt.Sprintf("%.2f%%", cpuPercent(v)), PIDs: fmt.Sprint(v.PidsStats.Current)}
	used := v.MemoryStats.Usage
	for _, cache := range []string{"total_inactive_file", "inactive_file"} { // cgroup 1 and 2: not used by the program
		if n := v.MemoryStats.Stats[cache]; n > 0 && n < used {
			used -= n
			break
		}
	}
	if v.MemoryStats.Limit > 0 {
		row.MemPerc = fmt.Sprintf("%.2f%%", 100*float64(used)/float64(v.MemoryStats.Limit))
	}
	row.MemUsage = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(v.MemoryStats.Limit))
	var in, out, read, written float64
	for _, n := range v.Networks {
		in, out = in+float64(n.RxBytes), out+float64(n.TxBytes)
	}
	for _, e := range v.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			read += float64(e.Value)
		case "write":
			written += float64(e.Value)
		}
	}
	row.NetIO = units.HumanSizeWithPrecision(in, 3) + " / " + units.HumanSizeWithPrecision(out, 3)
	row.BlockIO = units.HumanSizeWithPrecision(read, 3) + " / " + units.HumanSizeWithPrecision(written, 3)
	return row
}

func cpuPercent(v container.StatsResponse) float64 {
	spent := float64(v.CPUStats.CPUUsage.TotalUsage) - float64(v.PreCPUStats.CPUUsage.TotalUsage)
	passed := float64(v.CPUStats.SystemUsage) - float64(v.PreCPUStats.SystemUsage)
	cpus := float64(v.CPUStats.OnlineCPUs)
	if cpus == 0 {
		cpus = float64(len(v.CPUStats.CPUUsage.PercpuUsage))
	}
	if spent <= 0 || passed <= 0 {
		return 0
	}
	return spent / passed * cpus * 100
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// writers create services, one after the other each, and note what was
// acknowledged.
type writers struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu     sync.Mutex
	acked  map[string]string // id by name
	times  []time.Time       // of the acknowledgements
	failed []error
	more   chan struct{} // closed and replaced at each acknowledgement
}

// startWriters begins to write through every one of apis.
func startWriters(ctx context.Context, prefix string, apis ...*client.Client) *writers {
	ctx, cancel := context.WithCancel(ctx)
	w := &writers{cancel: cancel, acked: map[string]string{}, more: make(chan struct{})}
	for i, api := range apis {
		w.wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w.write(ctx, api, fmt.Sprintf("%s-%d-%d", prefix, i, n))
			}
		})
	}
	return w
}

func (w *writers) write(ctx context.Context, api *client.Client, name string) {
	r, err := api.ServiceCreate(ctx, spec(name, 0), swarm.ServiceCreateOptions{})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.acked[name] = r.ID
		w.times = append(w.times, time.Now())
		close(w.more)
		w.more = make(chan struct{})
	case ctx.Err() == nil:
		w.failed = append(w.failed, fmt.Errorf("%s: %w", name, err))
	}
}

// await waits until n more writes have been acknowledged.
func (w *writers) await(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ; n > 0; n-- {
		w.mu.Lock()
		more := w.more
		w.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			return fmt.Errorf("%d more acknowledgements: %w: %w", n, ctx.Err(), errors.Join(w.failed...))
		}
	}
	return nil
}

// stop ends the writers and returns the longest time without an
// acknowledgement.
func (w *writers) stop() (gap time.Duration) {
	w.cancel()
	w.wait.Wait()
	for i := 1; i < len(w.times); i++ {
		gap = max(gap, w.times[i].Sub(w.times[i-1]))
	}
	return gap
}

// check compares what was acknowledged with what is there: it counts writes
// that are lost, and names that are there twice. The writers have stopped.
func (w *writers) check(ctx context.Context, api *client.Client) (lost, doubled int, err error) {
	services, err := api.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return 0, 0, err
	}
	there := map[string]string{}
	for _, s := range services {
		if there[s.Spec.Name] != "" {
			doubled++
		}
		there[s.Spec.Name] = s.ID
	}
	for name, id := range w.acked {
		if there[name] != id {
			lost++
		}
	}
	return lost, doubled, nil
}

// verify is check for tests: nothing may be wrong.
func (w *writers) verify(t testing.TB, api *client.Client) {
	t.Helper()
	for _, err := range w.failed {
		t.Errorf("a write failed: %v", err)
	}
	lost, doubled, err := w.check(t.Context(), api)
	if err != nil || lost > 0 || doubled > 0 {
		t.Errorf("of %d acknowledged writes %d are lost and %d doubled, err %v", len(w.acked), lost, doubled, err)
	}
}

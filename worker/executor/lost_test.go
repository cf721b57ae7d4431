package executor

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/taskstate"
	"shoal/worker/engine"
)

// logBuffer keeps what is logged, for a test that reads it meanwhile.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) count(part string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), part)
}

func TestEngineThatIsAwayIsSaidOncePerAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake("probe")
		fake.Down(true) // before the daemon starts
		var log logBuffer
		x, err := New(Config{
			Engine: fake, NodeID: testNode, ClusterID: testCluster,
			Report: func(string, taskstate.Status) {}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = x.Run(ctx) }()
		for _, want := range []int{1, 2} {
			time.Sleep(time.Hour) // virtual
			synctest.Wait()
			if n := log.count("engine lost"); n != want {
				t.Errorf("said %d times, want %d", n, want)
			}
			fake.Down(false)
			time.Sleep(time.Minute)
			fake.Down(true)
		}
	})
}

package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// besideEngine runs a session that only notes that it is open, beside an engine that
// the test makes come and go.
func besideEngine(t *testing.T, test func(p *presence, open *atomic.Bool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, open := newPresence(), &atomic.Bool{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- p.while(ctx, slog.New(slog.DiscardHandler), func(ctx context.Context) error {
				open.Store(true)
				defer open.Store(false)
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		synctest.Wait()
		test(p, open)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestSessionOutlivesARestartOfTheEngine(t *testing.T) {
	besideEngine(t, func(p *presence, open *atomic.Bool) {
		p.set(true)
		for range 5 {
			p.set(false)
			time.Sleep(engineGrace - time.Second)
			p.set(true)
			time.Sleep(time.Minute)
			if !open.Load() {
				t.Fatal("the session was given up for a short restart")
			}
		}
	})
}

func TestSessionEndsWithTheEngineAndComesBackWithIt(t *testing.T) {
	besideEngine(t, func(p *presence, open *atomic.Bool) {
		p.set(true)
		for range 3 {
			p.set(false)
			time.Sleep(engineGrace + time.Second)
			if open.Load() {
				t.Error("the session is open without an engine")
			}
			time.Sleep(time.Hour)
			p.set(true)
			synctest.Wait()
			if !open.Load() {
				t.Error("the session is not open with the engine back")
			}
		}
	})
}

func TestSessionIsTriedBeforeTheEngineHasAnswered(t *testing.T) {
	besideEngine(t, func(_ *presence, open *atomic.Bool) {
		if !open.Load() {
			t.Error("a node that joins waits for its engine")
		}
		time.Sleep(engineGrace + time.Second)
		if open.Load() {
			t.Error("the session is open though the engine never answered")
		}
	})
}

func TestOtherEndsOfTheSessionAreItsOwn(t *testing.T) {
	broken := errors.New("broken")
	err := newPresence().while(t.Context(), slog.Default(), func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("while: %v, want what the session ended with", err)
	}
}

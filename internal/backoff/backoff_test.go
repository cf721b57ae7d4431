package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStepDoublesUpToMax(t *testing.T) {
	want := []time.Duration{100, 200, 400, 800, 1000, 1000}
	for n, w := range want {
		if got := Step(100*time.Millisecond, time.Second, n); got != w*time.Millisecond {
			t.Errorf("Step(100ms, 1s, %d) = %v, want %v", n, got, w*time.Millisecond)
		}
	}
	if got := Step(time.Second, time.Minute, 1000); got != time.Minute {
		t.Errorf("Step overflowed: %v", got)
	}
}

func TestNextStaysWithinHalfOfStep(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for n := range 50 {
		step := Step(b.Min, b.Max, n)
		if got := b.Next(); got < step/2 || got > step {
			t.Errorf("try %d: %v is outside [%v, %v]", n, got, step/2, step)
		}
	}
	b.Reset()
	if got := b.Next(); got > b.Min {
		t.Errorf("after Reset: %v, want at most %v", got, b.Min)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Min: time.Hour, Max: time.Hour}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v, want deadline exceeded", err)
		}
	})
}

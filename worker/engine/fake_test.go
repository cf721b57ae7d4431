package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"shoal/worker/engine"
	"shoal/worker/engine/enginetest"
)

func TestFakeBehavesAsAnEngine(t *testing.T) {
	enginetest.Suite(t, engine.NewFake("probe:test"), "probe:test")
}

func TestFakeFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engine.NewFake("probe")
		boom := errors.New("boom")
		f.Fail("List", 2, boom)
		for _, want := range []error{boom, boom, nil} {
			if _, err := f.List(t.Context(), "a", "b"); !errors.Is(err, want) {
				t.Errorf("list: %v, want %v", err, want)
			}
		}
		f.Delay("List", time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := f.List(ctx, "a", "b"); !errdefs.IsUnavailable(err) {
			t.Errorf("list that takes longer than its caller waits: %v, want unavailable", err)
		}
		f.Down(true)
		if _, err := f.Inspect(t.Context(), "x"); !errdefs.IsUnavailable(err) {
			t.Errorf("inspect while down: %v, want unavailable", err)
		}
	})
}

package ca

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func cluster(at time.Time, keys ...string) *state.Cluster {
	c := &state.Cluster{OverlayKeyAt: at}
	c.ID = "c1"
	for _, k := range keys {
		c.OverlayKeys = append(c.OverlayKeys, []byte(k))
	}
	return c
}

func TestPlanOverlayKey(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		cluster *state.Cluster
		want    string // the keys, joined; "": nothing is planned
	}{
		"no cluster":      {nil, ""},
		"none yet":        {cluster(time.Time{}), "new"},
		"young":           {cluster(now.Add(-overlayKeyPeriod+time.Second), "a", "b"), ""},
		"old":             {cluster(now.Add(-overlayKeyPeriod), "a", "b"), "new a"},
		"one old":         {cluster(now.Add(-overlayKeyPeriod), "a"), "new a"},
		"slow clock":      {cluster(now.Add(time.Hour), "a"), ""},
		"from the future": {cluster(now.Add(365*24*time.Hour), "a"), "new a"},
		"a node has gone": {NodeRemoved(cluster(now, "a", "b")), "new a"},
	} {
		store := statetest.New()
		if c.cluster != nil {
			store.Put(c.cluster)
		}
		changes := planOverlayKey(store.View(), now, []byte("new"))
		if c.want == "" {
			if changes != nil {
				t.Errorf("%s: %v", name, changes)
			}
			continue
		}
		store.Apply(changes...)
		got := store.View().Cluster()
		if keys := string(bytes.Join(got.OverlayKeys, []byte(" "))); keys != c.want || !got.OverlayKeyAt.Equal(now) {
			t.Errorf("%s: keys %q of %s", name, keys, got.OverlayKeyAt)
		}
		if again := planOverlayKey(store.View(), now, []byte("other")); again != nil {
			t.Errorf("%s: planned again: %v", name, again)
		}
	}
}

func TestNewClusterHasAKeyForTunnels(t *testing.T) {
	now := time.Now()
	c, err := NewCluster(Founding{}, now)
	if err != nil || len(c.OverlayKeys) != 1 || len(c.OverlayKeys[0]) != overlayKeySize || !c.OverlayKeyAt.Equal(now) {
		t.Errorf("keys %d, made at %s, error %v", len(c.OverlayKeys), c.OverlayKeyAt, err)
	}
}

func TestRotateOverlayKeysWithTimeAndRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		c, err := New(Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.RotateOverlayKeys(ctx) }()
		synctest.Wait()
		first := func() string { synctest.Wait(); return string(store.View().Cluster().OverlayKeys[0]) }
		store.Put(cluster(time.Time{}))
		a := first()
		time.Sleep(overlayKeyPeriod - time.Second)
		if first() != a {
			t.Error("rotated too early")
		}
		time.Sleep(time.Second)
		b := first()
		if b == a {
			t.Error("not rotated in time")
		}
		store.Put(NodeRemoved(store.View().Cluster()))
		if first() == b {
			t.Error("not rotated when a node was removed")
		}
		if n := store.Updates(); n != 5 {
			t.Errorf("%d updates, want 2 of the test and 3 of the loop", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

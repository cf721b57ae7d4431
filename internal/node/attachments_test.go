package node

import (
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"shoal/manager/api"
	"shoal/raftstore/state/statetest"
)

func TestPlacesAreOverWhenTheirContainersAreGone(t *testing.T) {
	l := leases{seen: map[string]bool{}, missing: map[string]time.Time{}}
	list := []api.Attachment{
		{ID: "a", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.2/24")}},
		{ID: "b", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.3/24")}},
	}
	there := func(texts ...string) map[netip.Addr]bool {
		m := map[netip.Addr]bool{}
		for _, text := range texts {
			m[netip.MustParseAddr(text)] = true
		}
		return m
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, c := range []struct {
		after time.Duration
		taken map[netip.Addr]bool
		want  []string
	}{
		{0, there("10.0.1.2"), nil},                                       // b is being made
		{30 * time.Second, there("10.0.1.2"), nil},                        // still
		{59 * time.Second, there("10.0.1.2", "10.0.1.3"), nil},            // there it is
		{2 * time.Minute, there("10.0.1.3"), []string{"a"}},               // removed: at once
		{2*time.Minute + time.Second, there("10.0.1.3"), []string{"a"}},   // nobody could be told before
		{3 * time.Minute, there("10.0.1.2", "10.0.1.3"), nil},             // given again
		{4 * time.Minute, there(), []string{"a", "b"}},                    // both
		{5 * time.Minute, there("10.0.1.2", "10.0.1.3", "10.9.9.9"), nil}, // another's address means nothing
	} {
		if got := l.over(list, c.taken, start.Add(c.after)); !slices.Equal(got, c.want) {
			t.Errorf("look %d: %v, want %v", i, got, c.want)
		}
	}
	restarted := leases{seen: map[string]bool{}, missing: map[string]time.Time{}}
	for after, want := range []int{0, 0, 2} {
		if got := restarted.over(list, there(), start.Add(time.Duration(after)*30*time.Second)); len(got) != want {
			t.Errorf("%d s after a restart: %v, want %d", 30*after, got, want)
		}
	}
	if restarted.over(nil, there(), start); len(restarted.missing) != 0 {
		t.Errorf("what is gone is remembered: %v", restarted.missing)
	}
}

func TestARemovedContainerGivesItsPlaceBack(t *testing.T) {
	h := newHost(t, false, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"))
	h.engine.local("abe", gatewayNetwork)
	body := map[string]any{"Image": "web:1", "HostConfig": map[string]any{"NetworkMode": "back"}}
	if status, text := h.do("POST", "/containers/create", body); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	a := h.node.member.attachments
	look := func(want int) {
		t.Helper()
		if err := a.look(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if n := count(h.store.View().Attachments()); n != want {
			t.Errorf("%d places, want %d", n, want)
		}
	}
	look(1)
	clear(h.engine.containers)
	look(0)
	look(0)
	if a.active {
		t.Error("a node without places goes on asking for them")
	}
}

//go:build docker

package lab

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// datagrams sends one from each host to each of the others and returns on
// which ways, such as h1>h2, it arrived. A datagram to a port where nobody
// listens is counted by the receiving kernel. One that should be dropped is
// waited for only briefly.
func datagrams(t *testing.T, l *Lab, dropped string) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	for _, to := range l.Hosts() {
		for _, from := range l.Hosts() {
			if from == to {
				continue
			}
			before := refused(t, to)
			if _, err := from.Run(t.Context(), "bash", "-c", "echo x >/dev/udp/"+to.Addr+"/9"); err != nil {
				t.Fatal(err)
			}
			way, limit := from.Name+">"+to.Name, 5*time.Second
			if strings.Contains(dropped, way) {
				limit = 300 * time.Millisecond
			}
			err := WaitFor(t.Context(), limit, "a datagram", func() (string, bool) {
				return "", refused(t, to) > before
			})
			got[way] = err == nil
		}
	}
	return got
}

// refused is how many datagrams reached a closed port of the host.
func refused(t *testing.T, h *Host) int {
	t.Helper()
	snmp, err := h.Run(t.Context(), "cat", "/proc/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(snmp) {
		if f := strings.Fields(line); f[0] == "Udp:" && f[1] != "InDatagrams" {
			n, err := strconv.Atoi(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no Udp line in %q", snmp)
	return 0
}

func TestCutsDropWhatTheySayAndNothingElse(t *testing.T) {
	l := ForTest(t, Config{Hosts: 3, NoEngines: true})
	h1, h2, h3 := l.Host(1), l.Host(2), l.Host(3)
	for _, step := range []struct {
		name    string
		do      func() error
		dropped string
	}{
		{"nothing cut", func() error { return nil }, ""},
		{"one way", func() error { return l.CutOneWay(h1, h2) }, "h1>h2"},
		{"one way more", func() error { return l.CutOneWay(h3, h1) }, "h1>h2 h3>h1"},
		{"one host healed", func() error { return l.Heal(h2) }, "h3>h1"},
		{"all healed", l.HealAll, ""},
		{"between two", func() error { return l.CutBetween(h2, h3) }, "h2>h3 h3>h2"},
		{"a host", func() error { return h1.Cut() }, "h1>h2 h1>h3 h2>h1 h2>h3 h3>h1 h3>h2"},
		{"partition of one", func() error { _ = l.HealAll(); return l.Partition(h1) }, "h1>h2 h1>h3 h2>h1 h3>h1"},
		{"partition of two", func() error { _ = l.HealAll(); return l.Partition(h1, h3) }, "h1>h2 h2>h1 h2>h3 h3>h2"},
		{"all healed again", l.HealAll, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for path, arrived := range datagrams(t, l, step.dropped) {
			if want := !strings.Contains(step.dropped, path); arrived != want {
				t.Errorf("%s: %s arrived: %v, want %v", step.name, path, arrived, want)
			}
		}
	}
}

func TestCutHostIsOutOfReachOfTheTest(t *testing.T) {
	l := ForTest(t, Config{Hosts: 1, NoEngines: true})
	h := l.Host(1)
	// a host that is there refuses a closed port at once
	refuses := func(within time.Duration) bool {
		_, err := net.DialTimeout("tcp", net.JoinHostPort(h.Addr, "9"), within)
		return strings.Contains(err.Error(), "refused")
	}
	if !refuses(10 * time.Second) {
		t.Error("the host cannot be reached")
	}
	if err := h.Cut(); err != nil {
		t.Fatal(err)
	}
	if refuses(300 * time.Millisecond) {
		t.Error("the host can be reached when it is cut off")
	}
	if err := h.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if refuses(300 * time.Millisecond) {
		t.Error("a restart healed the cut")
	}
	if err := h.Heal(); err != nil {
		t.Fatal(err)
	}
	if !refuses(10 * time.Second) {
		t.Error("the host cannot be reached after Heal")
	}
}

func TestTwoLabsDoNotMeet(t *testing.T) {
	a := ForTest(t, Config{Hosts: 1, NoEngines: true})
	b := ForTest(t, Config{Hosts: 1, NoEngines: true})
	if a.num == b.num || a.Dir() == b.Dir() {
		t.Errorf("labs %d in %s and %d in %s share", a.num, a.Dir(), b.num, b.Dir())
	}
	if _, err := a.Host(1).Run(t.Context(), "bash", "-c", "echo x >/dev/tcp/"+b.Host(1).Addr+"/9"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("from one lab to the other: %v, want unreachable", err)
	}
}

func TestDetachedLabIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	made, err := New(t.Context(), Config{Dir: dir, Hosts: 2, NoEngines: true, Detach: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Host(2).Cut(); err != nil {
		t.Error(err)
	}
	if _, err := New(t.Context(), Config{Dir: dir, Hosts: 1}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second lab in the directory: %v", err)
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !l.Host(1).On() || !l.Host(2).On() || len(l.cuts) != 4 {
		t.Errorf("taken over: %v, %v, cuts %v", l.Host(1).On(), l.Host(2).On(), l.cuts)
	}
	if err := l.Host(1).PowerOff(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if leaks := l.Leaks(); len(leaks) > 0 {
		t.Errorf("left behind: %q", leaks)
	}
	if err := made.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

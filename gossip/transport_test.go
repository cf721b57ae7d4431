package gossip

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// loopback is a node on the real network.
func loopback(t *testing.T, change func(*Config)) *Gossip {
	t.Helper()
	config := Config{
		NodeID: "n1", BindAddr: "127.0.0.1", Keys: [][]byte{key(1)}, Label: "c1",
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&config)
	}
	g, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// verifyNone finds goroutines left behind. A probe that memberlist has under way
// ends by itself within its interval, which is longer than goleak waits.
func verifyNone(t *testing.T) {
	t.Helper()
	goleak.VerifyNone(t, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// run starts g and returns what stops it.
func run(t *testing.T, g *Gossip, seeds ...string) func() {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, func() []string { return seeds }) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestTwoNodesOverTheRealNetwork(t *testing.T) {
	defer verifyNone(t)
	a := loopback(t, nil)
	b := loopback(t, func(c *Config) { c.NodeID = "n2" })
	if a.Port() == 0 || a.Addr() == b.Addr() {
		t.Errorf("addresses %s and %s", a.Addr(), b.Addr())
	}
	stopA, stopB := run(t, a), run(t, b, a.Addr())
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for a.Presence("n2").Presence != Alive || b.Presence("n1").Presence != Alive {
		changed := a.Changed()
		changedB := b.Changed()
		if a.Presence("n2").Presence == Alive && b.Presence("n1").Presence == Alive {
			break
		}
		select {
		case <-changed:
		case <-changedB:
		case <-deadline.Done():
			t.Fatalf("a sees %v, b sees %v", a.Members(), b.Members())
		}
	}
	b.Leave()
	stopB()
	stopA()
}

func TestRunWithAnEndedContextReleasesThePort(t *testing.T) {
	defer verifyNone(t)
	g := loopback(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx, func() []string { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	listener, err := net.Listen("tcp", g.Addr())
	if err != nil {
		t.Fatalf("port is still taken: %v", err)
	}
	listener.Close()
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no node id":       func(c *Config) { c.NodeID = "" },
		"no label":         func(c *Config) { c.Label = "" },
		"no keys":          func(c *Config) { c.Keys = nil },
		"short key":        func(c *Config) { c.Keys = [][]byte{make([]byte, 16)} },
		"long metadata":    func(c *Config) { c.Meta = make([]byte, MaxMeta+1) },
		"bind name":        func(c *Config) { c.BindAddr = "localhost" },
		"advertise a name": func(c *Config) { c.AdvertiseAddr = "host" },
	} {
		config := Config{NodeID: "n1", BindAddr: "127.0.0.1", Keys: [][]byte{key(1)}, Label: "c1"}
		change(&config)
		if _, err := New(config); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: err %v, want invalid argument", name, err)
		}
	}
}

func TestNewOnATakenPortFailsAndLeavesNothing(t *testing.T) {
	defer verifyNone(t)
	g := loopback(t, nil)
	stop := run(t, g)
	defer stop()
	_, err := New(Config{NodeID: "n2", BindAddr: "127.0.0.1", BindPort: g.Port(), Keys: [][]byte{key(1)}, Label: "c1"})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("err %v, want address already in use", err)
	}
}

func TestStrangersCannotHoldAllStreams(t *testing.T) {
	defer verifyNone(t)
	registry := prometheus.NewRegistry()
	g := loopback(t, func(c *Config) { c.Registerer = registry })
	stop := run(t, g)
	defer stop()
	// One more than fit: the last is closed without an answer.
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for range maxStreams + 1 {
		conn, err := net.Dial("tcp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	last := conns[maxStreams]
	_ = last.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("read from the stream too many: %v, want it closed", err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "shoal_gossip_refused_streams_total" {
			if got := family.GetMetric()[0].GetCounter().GetValue(); got != 1 {
				t.Errorf("%v refused streams counted, want 1", got)
			}
		}
	}
}

func TestStreamEndsAtItsLimit(t *testing.T) {
	ours, theirs := net.Pipe()
	released := 0
	s := &stream{Conn: ours, left: 10, release: func() { released++ }}
	go func() {
		_, _ = theirs.Write(make([]byte, 20))
		theirs.Close()
	}()
	got, err := io.ReadAll(s)
	if len(got) != 10 || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("read %d bytes, %v, want 10 and an error", len(got), err)
	}
	s.Close()
	if released != 1 {
		t.Errorf("released %d times", released)
	}
}

//go:build docker

package filter

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func set(list ...string) map[netip.Addr]bool {
	m := map[netip.Addr]bool{}
	for _, a := range addrs(list...) {
		m[a] = true
	}
	return m
}

// flowsOf are the namespace's flows by destination, and whether they would be
// moved away from one that has stopped serving.
func flowsOf(t *testing.T) (all []string) {
	t.Helper()
	for _, f := range families() {
		list, err := query{family: f.nfproto}.list()
		if err != nil {
			t.Fatal(err)
		}
		for _, flow := range list {
			for _, name := range []string{"10.252.1.2", "10.252.1.3", "fd00:1::2"} {
				a := netip.MustParseAddr(name)
				switch d := (doomed{gone: map[netip.Addr]bool{a: true}}); {
				case doomed{stopped: d.gone}.fateOf(flow) != spared:
					all = append(all, "moving "+name)
				case d.fateOf(flow) != spared:
					all = append(all, "staying "+name)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// apart are two services with one backend each.
func apart() Want {
	w := both()
	w.VIPs = []VIP{
		{Addr: netip.MustParseAddr("10.252.1.100"), Backends: addrs("10.252.1.2")},
		{Addr: netip.MustParseAddr("10.252.1.101"), Backends: addrs("10.252.1.3")},
	}
	return w
}

// TestOnlyTheDoomedAreForgotten asks by address and, when there are many, for
// everything: the kernel must be left with the same.
func TestOnlyTheDoomedAreForgotten(t *testing.T) {
	y := newYard(t)
	y.serve("b1", "80")
	y.serve("b2", "80")
	apply(t, newFilter(t), apart())
	many := doomed{gone: set("10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "fd00:9::1", "fd00:9::2", "fd00:9::3", "fd00:9::4", "fd00:9::5")}
	for _, others := range []doomed{{}, many} {
		for _, c := range []struct {
			what doomed
			left []string
		}{
			{doomed{gone: set("10.252.1.2")}, []string{"staying 10.252.1.3", "staying fd00:1::2", "moving 10.252.1.3"}},
			{doomed{stopped: set("10.252.1.2", "10.252.1.3")}, []string{"staying 10.252.1.2", "staying 10.252.1.3", "staying fd00:1::2"}},
			{doomed{gone: set("fd00:1::2"), stopped: set("10.252.1.3")}, []string{"staying 10.252.1.2", "staying 10.252.1.3", "moving 10.252.1.2"}},
			{doomed{gone: set("10.252.1.4")}, []string{"staying fd00:1::2"}}, // the client
		} {
			for _, to := range []string{"10.252.1.100:80", "10.252.1.101:80", "[fd00:1::2]:80"} {
				conn, err := y.open("c", to)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := say(conn); err != nil {
					t.Fatal(err)
				}
			}
			for _, to := range []string{"10.252.1.100:81", "10.252.1.101:81"} {
				y.in("c", func() {
					conn, err := net.Dial("udp", to)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					if _, err := conn.Write([]byte("hello")); err != nil {
						t.Fatal(err)
					}
				})
			}
			d := doomed{}.and(c.what).and(others)
			if n, _, err := d.forget(); n == 0 || err != nil {
				t.Fatalf("%d forgotten: %v", n, err)
			}
			slices.Sort(c.left)
			if left := slices.Compact(flowsOf(t)); !slices.Equal(left, c.left) {
				t.Errorf("after %v: left are %q, want %q", c.what, left, c.left)
			}
			if _, _, err := (doomed{gone: set("10.252.1.2", "10.252.1.3", "fd00:1::2")}).forget(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestUnansweredConnectionsMoveOn: a client whose first packet was lost sends it
// again after a second, when the backend that was chosen then may be no more. On
// the backend's own node, which has chosen nothing, the flow must stay: without it
// the answer would not find its way.
func TestUnansweredConnectionsMoveOn(t *testing.T) {
	y := newYard(t)
	y.serve("b2", "80")
	apply(t, newFilter(t), apart())
	y.in("b2", func() { y.run("iptables -A INPUT -p tcp --dport 82 -j DROP") })
	if _, err := y.open("c", "10.252.1.101:80"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.252.1.101:82", "10.252.1.3:82"} {
		y.in("c", func() {
			if conn, err := net.DialTimeout("tcp", to, 10*time.Millisecond); err == nil {
				conn.Close()
				t.Error("there is an answer")
			}
		})
	}
	n, found, err := doomed{stopped: set("10.252.1.3")}.forget()
	if n != 0 || len(found) != 1 || err != nil {
		t.Fatalf("%d forgotten, %d doubted: %v, want to doubt the one that was led here and has no answer", n, len(found), err)
	}
	if n, err := (doubts{flows: found}).forget(); n != 1 || err != nil {
		t.Errorf("%d forgotten: %v, want it to be", n, err)
	}
	if left := flowsOf(t); !slices.Equal(left, []string{"staying 10.252.1.3", "staying 10.252.1.3"}) {
		t.Errorf("left are %q", left)
	}
}

// TestWhatIsOverIsLeft: an entry of a connection that has ended may be another's
// by the time it is removed.
func TestWhatIsOverIsLeft(t *testing.T) {
	y := newYard(t)
	y.serve("b2", "80")
	apply(t, newFilter(t), apart())
	conn, err := y.open("c", "10.252.1.101:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := say(conn); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	ended := func() (n int) {
		list, err := query{family: unix.NFPROTO_IPV4}.list()
		if err != nil {
			t.Fatal(err)
		}
		for _, told := range list {
			if over(told) {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(10 * time.Second); ended() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the connection does not end")
		}
	}
	if n, found, err := (doomed{gone: set("10.252.1.3"), stopped: set("10.252.1.3")}).forget(); n != 0 || len(found) != 0 || err != nil || ended() == 0 {
		t.Errorf("%d forgotten, %d doubted: %v, want neither", n, len(found), err)
	}
}

// TestAnAnswerEndsTheDoubt: the answer may come between the look at all
// connections and the end of one.
func TestAnAnswerEndsTheDoubt(t *testing.T) {
	y := newYard(t)
	y.serve("b2", "80")
	apply(t, newFilter(t), apart())
	conn, err := y.open("c", "10.252.1.101:80")
	if err != nil {
		t.Fatal(err)
	}
	list, err := query{family: unix.NFPROTO_IPV4}.list()
	if err != nil {
		t.Fatal(err)
	}
	var d doubts
	for _, told := range list {
		if (doomed{gone: set("10.252.1.3")}).fateOf(told) == lost {
			d.flows = append(d.flows, flow{unix.NFPROTO_IPV4, told})
		}
	}
	if n, err := d.forget(); len(d.flows) == 0 || n != 0 || err != nil {
		t.Errorf("%d of %d forgotten: %v, want none", n, len(d.flows), err)
	}
	if _, _, err := say(conn); err != nil {
		t.Error(err)
	}
	d.flows[0].told = bytes.Clone(d.flows[0].told) // of an earlier connection with the same addresses
	attrBytes(d.flows[0].told, nl.CTA_ID)[0] ^= 1
	if now, err := d.flows[0].again(); now != nil || err != nil {
		t.Errorf("another connection was taken for it: %v", err)
	}
}

// TestWhatComesBackIsSpared is about an address that is given to another
// endpoint before the connections of the last one were looked for.
func TestWhatComesBackIsSpared(t *testing.T) {
	f := newFlows()
	f.doom(doomed{gone: set("10.0.0.1", "10.0.0.2"), stopped: set("10.0.0.3")}, doomed{})
	f.doom(doomed{}, doomed{gone: set("10.0.0.1"), stopped: set("10.0.0.3")})
	if len(f.doomed.gone) != 1 || !f.doomed.gone[netip.MustParseAddr("10.0.0.2")] || len(f.doomed.stopped) != 0 {
		t.Errorf("doomed are %v", f.doomed)
	}
	// While they are being forgotten, which fails, one comes back and another goes.
	_, _, err := f.forget(func(d doomed) (int, []flow, error) {
		f.doom(doomed{gone: set("10.0.0.4")}, doomed{gone: set("10.0.0.2"), stopped: set("10.0.0.5")})
		return 0, nil, errors.New("busy")
	})
	if err == nil || len(f.doomed.gone) != 1 || !f.doomed.gone[netip.MustParseAddr("10.0.0.4")] {
		t.Errorf("%v; doomed are %v", err, f.doomed)
	}
	for range 2 { // the second time there is nothing left
		if _, _, err := f.forget(func(doomed) (int, []flow, error) { return 0, nil, nil }); err != nil || len(f.doomed.gone) != 0 {
			t.Errorf("%v; doomed are %v", err, f.doomed)
		}
	}
}

// TestFlowsAreResetInTheBackground runs as a daemon does: Apply says what is
// gone, ResetFlows does it.
func TestFlowsAreResetInTheBackground(t *testing.T) {
	y := newYard(t)
	y.serve("b1", "80")
	f := newFilter(t)
	w := both()
	w.VIPs[0].Backends = w.VIPs[0].Backends[:1]
	apply(t, f, w)
	conn, err := y.open("c", "10.252.1.100:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := say(conn); err != nil {
		t.Fatal(err)
	}
	w.Known, w.VIPs = w.Known[1:], []VIP{{Addr: w.VIPs[0].Addr, Backends: addrs("10.252.1.3")}}
	apply(t, f, w)
	// The loop is run on this thread, which is in the host's namespace.
	ctx, cancel := context.WithCancel(t.Context())
	g := errgroup.Group{}
	g.Go(func() error {
		defer cancel()
		for {
			if _, _, err := say(conn); err != nil {
				return err
			}
		}
	})
	if err := f.ResetFlows(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := g.Wait(); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection to a backend that is gone: %v, want a reset", err)
	}
}

package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, KeySize) }

// cluster is nodes n1, n2, … in one bubble, each told of all the others.
type cluster struct {
	t     *testing.T
	net   *network
	nodes []*node
}

type node struct {
	*Gossip
	host *host
	stop func()
}

// inBubble runs test with size nodes and stops what is left of them.
func inBubble(t *testing.T, size int, test func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, net: newNetwork()}
		for i := range size {
			c.start(i+1, nil)
		}
		test(t, c)
		for _, n := range c.nodes {
			n.stop()
		}
		time.Sleep(time.Minute) // memberlist's own goroutines end with their timers
	})
}

// start adds node i, or starts it again. Its config may be changed before.
func (c *cluster) start(i int, change func(*Config)) *node {
	c.t.Helper()
	h := c.net.host(i)
	config := Config{
		NodeID: fmt.Sprintf("n%d", i), Keys: [][]byte{key(1)}, Label: "c1", Transport: h,
		Meta: fmt.Appendf(nil, "meta %d", i), Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	g, err := New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, c.seeds) }()
	n := &node{Gossip: g, host: h}
	n.stop = func() {
		if cancel(); done != nil {
			if err := <-done; !errors.Is(err, context.Canceled) {
				c.t.Errorf("%s: Run = %v", g.nodeID, err)
			}
			done = nil
		}
	}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *cluster) seeds() []string {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	var all []string
	for addr := range c.net.hosts {
		all = append(all, addr)
	}
	return all
}

// sees reports whether every one of nodes sees want alive.
func sees(want int, nodes ...*node) bool {
	for _, n := range nodes {
		if n.members.alive() != want {
			return false
		}
	}
	return true
}

// until waits for cond in bubble time and returns how long that took.
func (c *cluster) until(limit time.Duration, cond func() bool) time.Duration {
	c.t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > limit {
			for _, n := range c.nodes {
				c.t.Logf("%s sees %v", n.nodeID, n.members.aliveAddrs())
			}
			c.t.Fatalf("not reached within %s", limit)
		}
		time.Sleep(50 * time.Millisecond) // bubble time
	}
	return time.Since(start)
}

func TestNodesFindEachOther(t *testing.T) {
	inBubble(t, 20, func(t *testing.T, c *cluster) {
		took := c.until(10*time.Second, func() bool { return sees(20, c.nodes...) })
		t.Logf("20 nodes converged in %s", took)
		got := c.nodes[0].Presence("n7")
		if got.Presence != Alive || got.Addr != "10.0.0.7:7946" || string(got.Meta) != "meta 7" {
			t.Errorf("n7 is seen as %+v", got)
		}
		if unknown := c.nodes[0].Presence("n99"); unknown.Presence != Unknown || unknown.NodeID != "n99" {
			t.Errorf("a stranger is seen as %+v", unknown)
		}
		all := c.nodes[3].Members()
		for i := 1; i < len(all); i++ {
			if all[i-1].NodeID >= all[i].NodeID {
				t.Errorf("members out of order: %s, %s", all[i-1].NodeID, all[i].NodeID)
			}
		}
	})
}

func TestDeathIsNoticed(t *testing.T) {
	for _, size := range []int{3, 5, 20} {
		inBubble(t, size, func(t *testing.T, c *cluster) {
			c.until(10*time.Second, func() bool { return sees(size, c.nodes...) })
			c.nodes[0].stop() // silent: no goodbye
			rest := c.nodes[1:]
			took := c.until(15*time.Second, func() bool { return sees(size-1, rest...) })
			if took < 5*time.Second {
				t.Errorf("called dead after %s, before it had its time to answer", took)
			}
			t.Logf("%d nodes: dead everywhere after %s", size, took)
			if got := rest[0].Presence("n1"); got.Presence != Dead || time.Since(got.Since) > 10*time.Second {
				t.Errorf("n1 is seen as %+v", got)
			}
		})
	}
}

func TestLeaveIsNoticedAtOnce(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(5, c.nodes...) })
		c.nodes[0].Leave()
		c.nodes[0].stop()
		if took := c.until(3*time.Second, func() bool { return sees(4, c.nodes[1:]...) }); took > 2*time.Second {
			t.Errorf("goodbye took %s", took)
		}
	})
}

func TestPauseOfFiveSecondsKillsNobody(t *testing.T) {
	for _, size := range []int{3, 5} {
		inBubble(t, size, func(t *testing.T, c *cluster) {
			c.until(10*time.Second, func() bool { return sees(size, c.nodes...) })
			time.Sleep(30 * time.Second) // past the alertness of the first moments
			for round := range 8 {
				victim := c.nodes[round%size]
				before := c.opinions(victim)
				c.net.pause(victim.host)
				time.Sleep(5 * time.Second)
				c.net.resume(victim.host)
				time.Sleep(25*time.Second + time.Duration(round)*70*time.Millisecond)
				// What the paused node thinks of the others is left out: it ran
				// on here, as it would if only its link were cut.
				if after := c.opinions(victim); !maps.Equal(before, after) {
					t.Errorf("%d nodes, round %d: before %v, after %v", size, round, before, after)
				}
			}
		})
	}
}

// opinions is what the others last changed their mind to about n, and when.
func (c *cluster) opinions(n *node) map[string]string {
	all := map[string]string{}
	for _, other := range c.nodes {
		if seen := other.Presence(n.nodeID); other != n {
			all[other.nodeID] = fmt.Sprint(seen.Presence, " since ", seen.Since)
		}
	}
	return all
}

func TestDeadNodeComesBack(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(3, c.nodes...) })
		victim := c.nodes[0]
		c.net.isolate(victim.host, true)
		c.until(20*time.Second, func() bool { return sees(2, c.nodes[1:]...) && sees(1, victim) })
		time.Sleep(10 * time.Minute) // the others have forgotten it by now
		c.net.isolate(victim.host, false)
		took := c.until(time.Minute, func() bool { return sees(3, c.nodes...) })
		t.Logf("back after %s", took)
	})
}

func TestHalvesOfAPartitionFindEachOther(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(5, c.nodes...) })
		var hosts []*host
		for _, n := range c.nodes {
			hosts = append(hosts, n.host)
		}
		c.net.split(hosts[:2], hosts[2:], true)
		c.until(time.Minute, func() bool { return sees(2, c.nodes[:2]...) && sees(3, c.nodes[2:]...) })
		time.Sleep(5 * time.Minute) // nobody gossips to the dead any more
		c.net.split(hosts[:2], hosts[2:], false)
		took := c.until(2*time.Minute, func() bool { return sees(5, c.nodes...) })
		t.Logf("merged after %s", took)
	})
}

func TestRestartedNodeIsSeenWithItsNewMetadata(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(3, c.nodes...) })
		c.nodes[2].stop()
		again := c.start(3, func(config *Config) { config.Meta = []byte("new") })
		c.until(10*time.Second, func() bool {
			return sees(3, again) && string(c.nodes[0].Presence("n3").Meta) == "new"
		})
		if got := c.nodes[0].Presence("n3").Presence; got != Alive {
			t.Errorf("restarted node is %q: a quick restart must not look like a death", got)
		}
	})
}

func TestNodeComesBackUnderAnotherAddress(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(3, c.nodes...) })
		c.nodes[2].stop()
		c.until(15*time.Second, func() bool { return sees(2, c.nodes[:2]...) })
		c.start(9, func(config *Config) { config.NodeID = "n3" })
		c.until(2*time.Minute, func() bool { return c.nodes[0].Presence("n3").Addr == "10.0.0.9:7946" })
	})
}

func TestStrangersStayOutside(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"wrong key":   func(c *Config) { c.Keys = [][]byte{key(9)} },
		"wrong label": func(c *Config) { c.Label = "c2" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, c *cluster) {
				c.until(10*time.Second, func() bool { return sees(3, c.nodes...) })
				stranger := c.start(9, change)
				time.Sleep(3 * time.Minute)
				if !sees(1, stranger) || !sees(3, c.nodes[:3]...) {
					t.Errorf("stranger sees %v, the others %v", stranger.Members(), c.nodes[0].Members())
				}
			})
		})
	}
}

func TestChangedFiresOnlyOnChange(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(2, c.nodes...) })
		time.Sleep(time.Minute)
		changed := c.nodes[0].Changed()
		time.Sleep(10 * time.Minute)
		select {
		case <-changed:
			t.Error("Changed fired though nothing happened")
		default:
		}
		c.start(3, nil)
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Error("Changed did not fire for a new node")
		}
	})
}

//go:build docker

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"shoal/integration/lab"
)

// TestNetworkChaos breaks something at every round while the cluster's networks
// and services change, and looks whether all is as it should be afterwards.
// SHOAL_ROUNDS and SHOAL_SEED set how long and which way.
func TestNetworkChaos(t *testing.T) {
	campaign(t)
	rounds, seed := number(t, "SHOAL_ROUNDS", 20), number(t, "SHOAL_SEED", int(time.Now().UnixNano()%1_000_000))
	t.Logf("SHOAL_ROUNDS=%d SHOAL_SEED=%d", rounds, seed)
	s := formSite(t, 5, 3)
	via := s.Host(1)
	shoal(t, via, "network", "create", "front")
	shoal(t, via, "service", "create", "--name", "web", "--replicas", "2", "--network", "front", "--publish", "8080:8080", image)
	shoal(t, via, "service", "create", "--name", "client", "--mode", "global", "--network", "front", image, "sleep", "1000000")
	s.converged(t, via, "web", 2)
	s.converged(t, via, "client", 5)
	s.whole(t, "at the beginning")
	c := &chaos{site: s, dice: rand.New(rand.NewPCG(uint64(seed), 0)), seen: map[string]int{}} //nolint:gosec // repeatable on purpose
	for round := range rounds {
		start := time.Now()
		done := c.round(t, round)
		s.whole(t, fmt.Sprintf("after round %d: %s", round, done))
		c.sound(t, done)
		t.Logf("round %3d, %4.1f s: %s", round, time.Since(start).Seconds(), done)
		if t.Failed() {
			return
		}
	}
	t.Log(c.seen)
	c.nothingLeft(t)
}

func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	ok(t, err)
	return n
}

type chaos struct {
	*site
	dice *rand.Rand
	seen map[string]int
	nets int // that have come and gone
	step int // of the one that has not
}

func (c *chaos) any() *lab.Host { return c.Hosts()[c.dice.IntN(len(c.Hosts()))] }

// round changes something, breaks something in the middle of that, and has
// both come to an end.
func (c *chaos) round(t *testing.T, n int) (what string) {
	t.Helper()
	changes := []struct {
		name string
		run  func(t *testing.T, via *lab.Host) error
	}{
		{"update web", func(t *testing.T, via *lab.Host) error {
			return c.try(t, via, "service", "update", "-d", "--env-add", fmt.Sprint("ROUND=", n), "web")
		}},
		{"scale web", func(t *testing.T, via *lab.Host) error {
			if err := c.try(t, via, "service", "scale", "-d", "web=4"); err != nil {
				return err
			}
			return c.try(t, via, "service", "scale", "-d", "web=2")
		}},
		{"a network and a service come and go", c.comeAndGo},
		{"nothing", func(*testing.T, *lab.Host) error { return nil }},
	}
	faults := []struct {
		name string
		run  func(t *testing.T, h *lab.Host) (mend func())
	}{
		{"damage", c.damage},
		{"daemon killed", c.killDaemon},
		{"link cut", c.cut},
		{"daemon paused", c.pause},
		{"leader killed", func(t *testing.T, _ *lab.Host) func() { return c.killDaemon(t, c.leader(t, c.Host(1))) }},
	}
	change, fault, victim := changes[c.dice.IntN(len(changes))], faults[c.dice.IntN(len(faults))], c.any()
	c.seen[change.name]++
	c.seen[fault.name]++
	what = fmt.Sprintf("%s on %s during: %s", fault.name, victim.Name, change.name)
	managers := others(c.Hosts()[:3], victim)
	via := managers[c.dice.IntN(len(managers))]
	changed := make(chan error, 1)
	go func() { changed <- change.run(t, via) }()
	mend := fault.run(t, victim)
	err := <-changed
	mend()
	// What was refused or lost in the fault is done now, so that each round begins alike.
	if err != nil {
		waitFor(t, what+", again", func() (string, bool) {
			err := change.run(t, via)
			return fmt.Sprint(err), err == nil
		})
	}
	c.awaitReady(t, c.Host(1), 5)
	c.converged(t, c.Host(1), "web", 2)
	c.converged(t, c.Host(1), "client", 5)
	return what
}

func (c *chaos) try(t *testing.T, via *lab.Host, args ...string) error {
	t.Helper()
	_, err := via.Shoal(t.Context(), args...)
	return err
}

// comeAndGo goes on where it was interrupted. What was done although its answer
// was lost is not done twice.
func (c *chaos) comeAndGo(t *testing.T, via *lab.Host) error {
	t.Helper()
	name := fmt.Sprint("net", c.nets)
	steps := [][]string{
		{"network", "create", name},
		{"service", "create", "-d", "--name", "on-" + name, "--replicas", "3", "--network", name, image},
		{"service", "rm", "on-" + name},
		{"network", "rm", name},
	}
	for ; c.step < len(steps); c.step++ {
		err := c.try(t, via, steps[c.step]...)
		if err != nil && !strings.Contains(err.Error(), "already exists") && !strings.Contains(err.Error(), "not found") {
			return err
		}
	}
	c.nets, c.step = c.nets+1, 0
	return nil
}

// damage does something to the kernel of a host by hand.
func (c *chaos) damage(t *testing.T, h *lab.Host) func() {
	t.Helper()
	vni := c.vni(t, "front")
	all := damages(fmt.Sprintf("shoalb%x", vni), fmt.Sprintf("shoalx%x", vni), c.vip(t, "web", "front"))
	one := all[c.dice.IntN(len(all))]
	c.seen[one]++
	if out, err := h.Run(t.Context(), strings.Fields(one)...); err != nil {
		t.Errorf("%s on %s: %v %s", one, h.Name, err, out)
	}
	return func() {}
}

func (c *chaos) killDaemon(t *testing.T, h *lab.Host) func() {
	t.Helper()
	ok(t, h.Daemon().Kill9())
	return func() { restartDaemon(t, h) }
}

func (c *chaos) cut(t *testing.T, h *lab.Host) func() {
	t.Helper()
	ok(t, h.Cut())
	pass(t, time.Duration(1+c.dice.IntN(8))*time.Second)
	return func() { ok(t, h.Heal()) }
}

func (c *chaos) pause(t *testing.T, h *lab.Host) func() {
	t.Helper()
	ok(t, h.Daemon().Pause())
	pass(t, time.Duration(1+c.dice.IntN(8))*time.Second)
	return func() { ok(t, h.Daemon().Resume()) }
}

// differs is what doctor says of a node that matters here.
type differs struct {
	Nodes []struct {
		Hostname    string
		Differences []string
	}
}

// sound asks doctor, which has every node look: nothing may differ.
func (c *chaos) sound(t *testing.T, after string) {
	t.Helper()
	var last string
	waitFor(t, "doctor to find nothing after "+after, func() (string, bool) {
		out, err := c.Host(2).Shoal(t.Context(), "doctor", "--format", "json")
		if out != "" {
			last = out
		}
		return last, err == nil
	})
	var d differs
	ok(t, json.Unmarshal([]byte(last), &d))
	for _, n := range d.Nodes {
		if len(n.Differences) > 0 {
			t.Errorf("%s differs after %s: %q", n.Hostname, after, n.Differences)
		}
	}
}

// nothingLeft looks for what rounds have left in the kernels and engines.
func (c *chaos) nothingLeft(t *testing.T) {
	t.Helper()
	wanted := fmt.Sprintf("%x", c.vni(t, "front"))
	for _, h := range c.Hosts() {
		waitFor(t, h.Name+" to have the links of front alone", func() (string, bool) {
			out, err := h.Run(t.Context(), "ip", "-br", "link")
			var strange []string
			for line := range strings.Lines(out) {
				name, _, _ := strings.Cut(line, " ")
				if (strings.HasPrefix(name, "shoalb") || strings.HasPrefix(name, "shoalx")) && !strings.HasSuffix(name, wanted) {
					strange = append(strange, name)
				}
			}
			return fmt.Sprint(strange, err), err == nil && len(strange) == 0
		})
	}
	left := strings.Fields(docker(t, c.Host(1), "network", "ls", "--filter", "scope=swarm", "--format", "{{.Name}}"))
	slices.Sort(left)
	if !slices.Equal(left, []string{"front", "ingress"}) {
		t.Errorf("networks of the cluster at the end: %v", left)
	}
}

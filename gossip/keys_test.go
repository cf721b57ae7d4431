package gossip

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"pgregory.net/rapid"
)

func TestSetKeysMakesTheRingWhatItIsTold(t *testing.T) {
	for _, steps := range [][]string{
		{"a", "ab", "ba", "b"},     // a careful rotation
		{"a", "b"},                 // a hasty one
		{"ab", "cd", "dcba", "bc"}, // any other
		{"a", "a", "aa"},
	} {
		k, err := newKeys(ring(steps[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps[1:] {
			if err := k.set(ring(step)); err != nil {
				t.Fatal(err)
			}
			if got, want := k.ring.GetKeys(), slices.CompactFunc(ring(step), bytes.Equal); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%v: after %q the ring is %c", steps, step, got)
			}
		}
	}
}

// ring is one key for each letter.
func ring(letters string) [][]byte {
	var list [][]byte
	for _, c := range []byte(letters) {
		list = append(list, key(c))
	}
	return list
}

// A reader may hold the ring of a moment ago: set must not write into it.
func TestSetKeysLeavesOldRingsAlone(t *testing.T) {
	letters := rapid.StringOfN(rapid.RuneFrom([]rune("abcde")), 1, 5, -1)
	rapid.Check(t, func(t *rapid.T) {
		k, err := newKeys(ring(letters.Draw(t, "first")))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			held := k.ring.GetKeys()
			before := slices.Clone(held)
			next := ring(letters.Draw(t, "next"))
			if err := k.set(next); err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(held, before, bytes.Equal) {
				t.Fatal("a ring in use was written to")
			}
			got := k.ring.GetKeys()
			if !bytes.Equal(got[0], next[0]) || len(got) != distinct(next) {
				t.Fatalf("ring %c after set %c", got, next)
			}
		}
	})
}

func TestSetKeysRefusesAndKeepsTheRing(t *testing.T) {
	k, _ := newKeys(ring("a"))
	for name, keys := range map[string][][]byte{
		"none": nil, "short": {make([]byte, 16)}, "one of two": {key('a'), {1}}, "empty": {nil},
	} {
		if err := k.set(keys); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: err %v, want invalid argument", name, err)
		}
		if _, err := newKeys(keys); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: newKeys: err %v, want invalid argument", name, err)
		}
	}
	if got := k.ring.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], key('a')) {
		t.Errorf("ring is %c", got)
	}
}

func TestRotationLosesNobody(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.until(10*time.Second, func() bool { return sees(5, c.nodes...) })
		changed := c.nodes[0].Changed()
		current := "\x01"
		for _, next := range "abcde" {
			// Each phase reaches the nodes one by one, seconds apart.
			for _, phase := range []string{current + string(next), string(next) + current, string(next)} {
				if err := setAll(c, phase); err != nil {
					t.Fatal(err)
				}
			}
			current = string(next)
		}
		time.Sleep(time.Minute)
		select {
		case <-changed:
			t.Errorf("rotation was noticed: %v", c.nodes[0].Members())
		default:
		}
		late := c.start(9, func(config *Config) { config.Keys = [][]byte{key(1)} })
		time.Sleep(5 * time.Minute)
		if !sees(1, late) || !sees(5, c.nodes[:5]...) {
			t.Error("a node with a retired key was let in")
		}
		if err := late.SetKeys(ring(current)); err != nil {
			t.Fatal(err)
		}
		c.until(2*time.Minute, func() bool { return sees(6, c.nodes...) })
	})
}

func setAll(c *cluster, letters string) error {
	for _, n := range c.nodes {
		if err := n.SetKeys(ring(letters)); err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
	}
	return nil
}

package ca

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/pki"
)

func bad() error { return pki.ErrTokenRefused }

func good() error { return nil }

func TestLimiterBlocksAnAddressAtTheSixthGuess(t *testing.T) {
	l, now := newLimiter(), time.Now()
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range 100 {
		err := l.try(addr, now, bad)
		if want := i >= guessesPerAddr; errdefs.IsResourceExhausted(err) != want {
			t.Fatalf("guess %d: err %v, want blocked %v", i+1, err, want)
		}
	}
	if err := l.try(addr, now, good); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a good token from a blocked address: err %v, want blocked", err)
	}
	if err := l.try(netip.MustParseAddr("10.0.0.2"), now, good); err != nil {
		t.Errorf("another address: err %v", err)
	}
	if err := l.try(addr, now.Add(time.Minute), good); err != nil {
		t.Errorf("a minute later: err %v", err)
	}
}

func TestLimiterDoesNotCountGoodTokens(t *testing.T) {
	l, now := newLimiter(), time.Now()
	for range 10_000 {
		if err := l.try(netip.MustParseAddr("10.0.0.1"), now, good); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.addrs) != 0 {
		t.Errorf("%d addresses remembered", len(l.addrs))
	}
}

func TestLimiterBoundsGuessesOfManyAddresses(t *testing.T) {
	l, now := newLimiter(), time.Now()
	looked := 0
	var raw [4]byte
	for i := range 100_000 {
		binary.BigEndian.PutUint32(raw[:], uint32(i))
		err := l.try(netip.AddrFrom4(raw), now, func() error { looked++; return bad() })
		if err == nil {
			t.Fatal("a guess got in")
		}
	}
	if looked != guessesInAll {
		t.Errorf("looked at %d guesses, want %d", looked, guessesInAll)
	}
	// An hour of it does not fill the memory.
	for i := range 3600 {
		binary.BigEndian.PutUint32(raw[:], uint32(i))
		_ = l.try(netip.AddrFrom4(raw), now.Add(time.Duration(i)*time.Second), bad)
	}
	if len(l.addrs) > 2*guessesInAll {
		t.Errorf("%d addresses remembered", len(l.addrs))
	}
}

func TestLimiterCountsGuessesAtOnce(t *testing.T) {
	l, now := newLimiter(), time.Now()
	var looked atomic.Int32
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			_ = l.try(netip.MustParseAddr("10.0.0.1"), now, func() error { looked.Add(1); return bad() })
		})
	}
	all.Wait()
	if looked.Load() != guessesPerAddr {
		t.Errorf("looked at %d guesses, want %d", looked.Load(), guessesPerAddr)
	}
}

func TestLimiterTakesAnIPv6NetworkForOne(t *testing.T) {
	l, now := newLimiter(), time.Now()
	for _, c := range []struct {
		addr string
		want bool // blocked after five guesses of fd00::1
	}{
		{"fd00::2", true}, {"fd00::ffff:1", true}, {"fd00:0:0:1::1", false}, {"10.0.0.1", false},
	} {
		for range guessesPerAddr {
			_ = l.try(netip.MustParseAddr("fd00::1%eth0"), now, bad)
		}
		if err := l.try(netip.MustParseAddr(c.addr), now, good); errdefs.IsResourceExhausted(err) != c.want {
			t.Errorf("%s: err %v, want blocked %v", c.addr, err, c.want)
		}
	}
	mapped, plain := network(netip.MustParseAddr("::ffff:10.0.0.1")), netip.MustParseAddr("10.0.0.1")
	if mapped != plain {
		t.Errorf("%s is not %s", mapped, plain)
	}
	if err := l.try(netip.Addr{}, now, bad); !errors.Is(err, pki.ErrTokenRefused) {
		t.Errorf("no address: err %v", err)
	}
}

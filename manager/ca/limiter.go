package ca

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/time/rate"
)

const (
	// Bad join tokens that are looked at, per minute.
	guessesPerAddr = 5
	guessesInAll   = 60
)

// limiter slows down whoever guesses join tokens. Only bad tokens count, but
// an address that has used up its guesses is not listened to at all, so that
// the answer does not tell a good guess from a bad one.
type limiter struct {
	mu    sync.Mutex
	all   *rate.Limiter
	addrs map[netip.Addr]*rate.Limiter // each is younger than a minute or so
}

func newLimiter() *limiter {
	return &limiter{all: perMinute(guessesInAll), addrs: map[netip.Addr]*rate.Limiter{}}
}

func perMinute(n int) *rate.Limiter {
	return rate.NewLimiter(rate.Every(time.Minute/time.Duration(n)), n)
}

// try runs check for addr, unless addr has used up its guesses. An error of
// check counts as a bad guess. The lock is held meanwhile, so that a thousand
// guesses at once count as a thousand.
func (l *limiter) try(addr netip.Addr, now time.Time, check func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr = network(addr)
	one := l.addrs[addr]
	if l.all.TokensAt(now) < 1 || one != nil && one.TokensAt(now) < 1 {
		return fmt.Errorf("too many bad join tokens, try again in a minute: %w", errdefs.ErrResourceExhausted)
	}
	err := check()
	if err == nil {
		return nil
	}
	if one == nil {
		one = perMinute(guessesPerAddr)
		l.addrs[addr] = one
	}
	one.AllowN(now, 1)
	l.all.AllowN(now, 1)
	// guessesInAll bounds how fast the table grows; this how large.
	for other, its := range l.addrs {
		if its.TokensAt(now) >= guessesPerAddr {
			delete(l.addrs, other)
		}
	}
	return err
}

// network is what one guesser has for the asking: an IPv4 address, or a /64.
func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr // not for a valid address
	}
	return prefix.Addr()
}

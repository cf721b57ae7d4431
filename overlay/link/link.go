// Package link makes the devices, addresses, forwarding entries, neighbours,
// routes and rules of a node agree with what it should have.
//
// What is wanted and what the kernel has are both a state: sets of plain
// values. diff, which is pure, turns two of them into changes; the rest reads
// and writes the kernel.
package link

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
)

// Links changes the kernel through netlink. Its methods must not be called at
// the same time as each other, but for Watch.
type Links struct {
	log    *slog.Logger
	kernel kernel

	want  Want
	seen  links           // as of the last comparison
	away  map[string]bool // links that could not be then
	clean bool            // the kernel is known to be as want says, with nothing waiting
	// neighbours are those of want, for Watch.
	neighbours atomic.Pointer[[]Neighbour]
	// limit is how many changes may be made before one fails, in tests; 0: all.
	limit int
}

// New returns a Links of the network namespace of this process.
func New(log *slog.Logger) (*Links, error) {
	if log == nil {
		log = slog.Default()
	}
	return &Links{log: log}, nil
}

// Apply brings w into effect. The first call, and one after an error, compares
// with the kernel; others change what differs from the last one.
func (l *Links) Apply(w Want) (Result, error) {
	before := l.want
	l.want = w
	l.neighbours.Store(&w.Neighbours)
	if !l.clean || !sameDevices(before, w) {
		return l.compare() // what hangs on a device that is made again is made again too
	}
	changes := diff(narrow(before, w))
	made, err := l.carryOut(l.seen, changes)
	r := Result{Compared: len(changes), Repaired: made.lines(nil)}
	if err != nil {
		return l.failed(r, err)
	}
	if !slices.Equal(before.Sysctls, w.Sysctls) { // to look costs more than a change: those that were set before are left to audits
		r.Waiting = l.repairSysctls(&Result{}, nil)
	}
	l.clean = len(r.Waiting) == 0
	return r, nil
}

// Audit compares the kernel with what was last applied, and repairs it.
func (l *Links) Audit() (Result, error) { return l.compare() }

// failed has the next Apply compare everything. What was repaired before the
// error is in r.
func (l *Links) failed(r Result, err error) (Result, error) {
	l.clean = false
	return r, err
}

// compare reads the kernel and repairs it. A repair may bring about what could
// not be seen before, as a device that is made again loses what hung on it, so
// it goes on until there is nothing to do.
func (l *Links) compare() (Result, error) {
	var r Result
	wasAway := l.away
	for range rounds {
		links, err := l.kernel.links()
		if err != nil {
			return l.failed(r, err)
		}
		have, err := l.kernel.read(links)
		if err != nil {
			return l.failed(r, err)
		}
		l.seen = links
		reflectAll(links)
		wanted, away, waiting := possible(stateOf(l.want), links)
		l.away = away
		r.Compared, r.Waiting = wanted.size()+len(l.want.Sysctls), waiting
		changes := diff(have, wanted)
		if len(changes) == 0 {
			r.Waiting = append(r.Waiting, l.repairSysctls(&r, wasAway)...)
			l.clean = len(r.Waiting) == 0
			return r, nil
		}
		made, err := l.carryOut(links, changes)
		r.Repaired = append(r.Repaired, made.lines(wasAway)...)
		if err != nil {
			return l.failed(r, err)
		}
	}
	return l.failed(r, errors.New("the kernel does not keep what it is given: "+strings.Join(r.Repaired[max(0, len(r.Repaired)-3):], "; ")))
}

// rounds is enough for: devices, what hangs on them, what hangs on that, and
// once more to see that nothing is left.
const rounds = 5

// carryOut makes changes and returns those that were made.
func (l *Links) carryOut(links links, changes changes) (made changes, err error) {
	if l.limit > 0 && len(changes) > l.limit {
		made, err = l.kernel.carryOut(links, changes[:l.limit])
		return made, cmp.Or(err, errors.New("cut short"))
	}
	return l.kernel.carryOut(links, changes)
}

// repairSysctls writes the settings that differ, and returns what waits.
func (l *Links) repairSysctls(r *Result, wasAway map[string]bool) (waiting []string) {
	for _, s := range l.want.Sysctls {
		have, err := os.ReadFile(s.Path)
		if err == nil && strings.TrimSpace(string(have)) == s.Value {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			waiting = append(waiting, "setting "+s.Path+" is not there yet")
			continue
		}
		if err == nil {
			err = os.WriteFile(s.Path, []byte(s.Value), 0o644) //nolint:gosec // the kernel's own mode holds
		}
		if err != nil {
			l.log.Warn("setting cannot be changed", "path", s.Path, "value", s.Value, "error", err)
			waiting = append(waiting, fmt.Sprintf("setting %s cannot be changed to %s: %v", s.Path, s.Value, err))
			continue
		}
		if slices.ContainsFunc(strings.Split(s.Path, "/"), func(part string) bool { return wasAway[part] }) {
			continue
		}
		r.Repaired = append(r.Repaired, fmt.Sprintf("setting %s was %s, not %s", s.Path, strings.TrimSpace(string(have)), s.Value))
	}
	return waiting
}

// Owned is the beginning of all names of links that are ours.
const Owned = "shoal"

// Purge removes everything that is owned, but for bridges, which are the
// engine's.
func Purge() error {
	l := &Links{log: slog.Default()}
	_, err := l.compare()
	return err
}

// links are the links of the namespace, by name.
type links map[string]netlink.Link

func (l links) index(name string) (int, error) {
	if link := l[name]; link != nil {
		return link.Attrs().Index, nil
	}
	return 0, netlink.LinkNotFoundError{}
}

// names are the links by index.
func (l links) names() map[int]string {
	names := make(map[int]string, len(l))
	for name, link := range l {
		names[link.Attrs().Index] = name
	}
	return names
}

func owned(name string) bool { return strings.HasPrefix(name, Owned) }

// Package link makes the devices, addresses, forwarding entries, neighbours,
// routes and rules of a node agree with what it should have.
//
// What should be and what is are drawn as pictures of the same form; diff,
// which is pure, says how to get from one to the other; kernel reads the one and
// takes the steps. Nothing is remembered outside of the kernel: a new Links
// takes over what an earlier one has left, whole or half done.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Links changes the kernel through netlink. Its methods must not be called at
// the same time as each other, but for Watch.
type Links struct {
	log  *slog.Logger
	open func() (kernel, error)

	asked   *Want             // by the last Apply; nil: none yet
	applied *picture          // what is in effect; nil: not known, so compare
	kinds   map[string]string // of links, when they were last looked at
	waited  map[string]bool   // links and files that were missing then
	emptied bool              // by the last steps: see empties
	sight   *sight            // what Watch knows of all this
}

// kernel is what is compared with, and changed.
type kernel interface {
	// read draws what is ours, with these files, and says of which kind each link
	// is, ours or not.
	read(files []Sysctl) (picture, map[string]string, error)
	// kind looks at one link; "": there is none.
	kind(link string) (string, error)
	// do takes the steps in order, all of them, and returns an error for each.
	do(ops []op) []error
	// v6 reports whether IPv6 is switched on.
	v6() bool
	close()
}

// errWaits is that of a step which cannot be done yet.
var errWaits = errors.New("its directory does not exist")

// New returns a Links of the network namespace of this process.
func New(log *slog.Logger) (*Links, error) {
	l := &Links{log: log, open: openKernel, sight: &sight{}}
	k, err := l.open()
	if err != nil {
		return nil, err
	}
	k.close()
	return l, nil
}

// Apply brings w into effect, and keeps it: it must not be changed afterwards.
// The first call, and one after an error, compares with the kernel; others
// change what differs from the last one, and are quick where its lists are in
// the same order. What fails does not keep the rest from being done.
func (l *Links) Apply(w Want) (Result, error) {
	l.asked = &w
	return l.with(func(k kernel, want picture) (Result, error) {
		if l.applied == nil {
			return l.compare(k, want)
		}
		r, err := l.change(k, want)
		if err != nil {
			// Something is not as it was left.
			l.log.Debug("change of links does not fit", "err", err)
			return l.compare(k, want)
		}
		return r, nil
	})
}

// Audit compares the kernel with what was last applied, and repairs it.
func (l *Links) Audit() (Result, error) {
	if l.asked == nil {
		return Result{}, nil
	}
	return l.with(l.compare)
}

// Watch calls notify whenever something of ours, or a bridge that is waited
// for, has changed in the kernel, until ctx ends. Changes made by Links itself
// may be told too.
func (l *Links) Watch(ctx context.Context, notify func()) error {
	return watch(ctx, l.sight, l.log, notify)
}

// Purge removes everything that is owned.
func Purge() error {
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.close()
	have, _, err := k.read(nil)
	if err != nil {
		return err
	}
	return joined(k.do(diff(have, picture{})))
}

// with opens the kernel and draws what should be.
func (l *Links) with(do func(kernel, picture) (Result, error)) (Result, error) {
	k, err := l.open()
	if err != nil {
		l.applied = nil
		return Result{}, err
	}
	defer k.close()
	want, dropped, err := wanted(*l.asked, k.v6())
	if err != nil {
		l.applied = nil
		return Result{}, err
	}
	l.emptied = false
	r, err := do(k, want)
	if err == nil && l.emptied {
		var second Result
		second, err = l.compare(k, want)
		r.Waiting = second.Waiting
	}
	if dropped > 0 {
		r.Waiting = append(r.Waiting, fmt.Sprintf("%d things of IPv6: it is switched off on this node", dropped))
	}
	return r, err
}

// compare reads the kernel and repairs what differs.
func (l *Links) compare(k kernel, want picture) (Result, error) {
	l.applied = nil
	have, kinds, err := k.read(want.sysctls)
	if err != nil {
		return Result{}, err
	}
	l.kinds = kinds
	missing, waiting := want.missing(kinds, want.foreign())
	possible := want.possible(missing)
	l.sight.set(want, possible)
	ops := diff(have, possible)
	errs := k.do(ops)
	r := Result{Compared: possible.size(), Waiting: waiting}
	early := l.early(want)
	for i, o := range ops {
		if o.del {
			r.Compared++ // the wanted ones are counted already
		}
		if !early[o.about()] && !early[o.item.on()] && !early[o.name()] && !errors.Is(errs[i], errWaits) {
			r.Repaired = append(r.Repaired, o.String())
		}
	}
	return l.finish(r, ops, errs, possible, missing)
}

// change takes the steps from what was applied last to what is wanted now.
func (l *Links) change(k kernel, want picture) (Result, error) {
	before := *l.applied
	l.applied = nil
	names := want.foreign()
	if err := l.look(k, names); err != nil {
		return Result{}, err
	}
	missing, waiting := want.missing(l.kinds, names)
	possible := want.possible(missing)
	l.sight.set(want, possible)
	ops := diff(before, possible)
	return l.finish(Result{Compared: len(ops), Waiting: waiting}, ops, k.do(ops), possible, missing)
}

// look learns of links that are new to us, or were missing.
func (l *Links) look(k kernel, names []string) error {
	for _, name := range names {
		if l.kinds[name] != "" && !l.waited[name] {
			continue
		}
		kind, err := k.kind(name)
		if err != nil {
			return err
		}
		l.kinds[name] = kind
	}
	return nil
}

// early has what could not be there before, so that nobody has broken it: what
// is on links that were missing when they were last looked at.
func (l *Links) early(want picture) map[string]bool {
	early := copySet(l.waited)
	for _, d := range want.devices {
		if early[d.Master] {
			early[d.Name] = true
		}
	}
	return early
}

// finish keeps what is in effect now, and what waits.
func (l *Links) finish(r Result, ops []op, errs []error, possible picture, missing map[string]bool) (Result, error) {
	l.waited = copySet(missing)
	for i, o := range ops {
		if errors.Is(errs[i], errWaits) {
			errs[i] = nil
			l.waited[o.name()] = true
			r.Waiting = append(r.Waiting, fmt.Sprintf("%s: %s", o.item, errWaits))
		}
	}
	possible.sysctls = without(possible.sysctls, func(s Sysctl) bool { return l.waited[s.Path] })
	if err := joined(errs); err != nil {
		return r, err
	}
	l.applied = &possible
	l.emptied = empties(ops, possible)
	return r, nil
}

// empties reports whether a link loses its last IPv4 address: the kernel drops
// all routes and neighbours of that family with it, also wanted ones.
func empties(ops []op, possible picture) bool {
	return slices.ContainsFunc(ops, func(o op) bool {
		gone, is := o.item.(Addr)
		return is && o.del && gone.Prefix.Addr().Is4() && !slices.ContainsFunc(possible.addrs, func(a Addr) bool {
			return a.Link == gone.Link && a.Prefix.Addr().Is4()
		})
	})
}

// joined makes one error of many, and is silent about most of very many.
func joined(errs []error) error {
	const most = 8
	var told []error
	left := 0
	for _, err := range errs {
		switch {
		case err == nil:
		case len(told) < most:
			told = append(told, err)
		default:
			left++
		}
	}
	if left > 0 {
		told = append(told, fmt.Errorf("and %d more errors", left))
	}
	return errors.Join(told...)
}

// Package filter makes the nftables of a node agree with what it should have:
// one table of its own, a small one for zones, and a few rules in the engine's
// chain for users.
//
// A service's address or published port is a chain that picks a backend, and an
// element of a map that leads there; so a backend that comes or goes changes one
// chain. A transaction takes effect as a whole or not at all, and connections
// that are open go on whatever is changed.
package filter

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// Filter changes the kernel's tables. Its methods must not be called at the
// same time as each other, but for Watch and ResetFlows.
type Filter struct {
	log   *slog.Logger
	ports *ports
	flows *flows

	want  Want
	clean bool   // the kernel has what want says, as far as is known
	made  uint32 // generation of the ruleset after our last transaction; 0: unknown
	print print  // of the table when it was last known to be good; nil: not taken yet
}

// New returns a Filter of the network namespace of this process.
func New(log *slog.Logger) (*Filter, error) {
	if log == nil {
		log = slog.Default()
	}
	return &Filter{log: log, ports: newPorts(), flows: newFlows()}, nil
}

// Close gives the held ports back and leaves the tables as they are.
func (f *Filter) Close() error { return f.ports.close() }

// bufferSize lets a transaction of thousands of rules through: the library
// writes all of it before it reads an answer.
const bufferSize = 16 << 20

func dial() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		if err := c.SetReadBuffer(bufferSize); err != nil {
			return err
		}
		return c.SetWriteBuffer(bufferSize)
	}))
}

// Apply brings w into effect in one transaction. The first call, and one after
// an error, replaces the whole table; others change what differs.
func (f *Filter) Apply(w Want) (Result, error) {
	before, after := narrow(f.want, w)
	same := sameFrame(f.want, w)
	f.want = w
	var changed int
	var err error
	if f.clean && same {
		changed, err = f.change(before, after)
	} else {
		changed, err = f.replace()
	}
	if err != nil {
		return Result{}, err
	}
	f.ports.hold(w.Ports)
	f.resetFlows(before, after)
	return Result{Compared: changed, Taken: f.ports.taken()}, nil
}

// narrow returns two wants without most of what they have in common, so that a
// small change among many things costs little: lists come in a fixed order, so
// what differs lies between a common beginning and end.
func narrow(before, after Want) (b, a Want) {
	b, a = before, after
	b.VIPs, a.VIPs = trim(b.VIPs, a.VIPs, func(x, y VIP) bool { return x.Addr == y.Addr && slices.Equal(x.Backends, y.Backends) })
	b.Ports, a.Ports = trim(b.Ports, a.Ports, func(x, y Port) bool {
		return x.Port == y.Port && x.Protocol == y.Protocol && slices.Equal(x.Backends, y.Backends)
	})
	equal := func(x, y netip.Addr) bool { return x == y }
	b.Local, a.Local = trim(b.Local, a.Local, equal)
	b.Known, a.Known = trim(b.Known, a.Known, equal)
	return b, a
}

func trim[T any](a, b []T, equal func(x, y T) bool) (x, y []T) {
	for len(a) > 0 && len(b) > 0 && equal(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && equal(a[len(a)-1], b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// sameFrame reports whether two wants differ in elements and backends alone.
func sameFrame(a, b Want) bool {
	return a.MeshBridge == b.MeshBridge && a.MeshLink == b.MeshLink && a.TunnelLink == b.TunnelLink &&
		a.Port == b.Port && a.SealedPort == b.SealedPort && a.Resolver == b.Resolver && slices.Equal(a.MeshPools, b.MeshPools) && slices.Equal(a.Homes, b.Homes)
}

// replace makes the table anew.
func (f *Filter) replace() (changed int, err error) {
	f.clean = false
	if err := setZones(f.want); err != nil {
		return 0, err
	}
	conn, err := dial()
	if err != nil {
		return 0, fmt.Errorf("nftables: %w", err)
	}
	b := newBatch(conn)
	b.build(f.want)
	if err := f.commit(b); err != nil {
		return 0, err
	}
	return len(f.want.VIPs) + len(f.want.Ports), f.passEngine()
}

// change makes the difference.
func (f *Filter) change(before, after Want) (changed int, err error) {
	had, have := targetsOf(before), targetsOf(after)
	conn, err := dial()
	if err != nil {
		return 0, fmt.Errorf("nftables: %w", err)
	}
	b := newBatch(conn)
	for name, t := range have {
		old, there := had[name]
		switch {
		case !there:
			b.addTarget(t)
		case !t.equal(old):
			b.changeTarget(t)
		default:
			continue
		}
		changed++
	}
	for name, t := range had {
		if _, still := have[name]; !still {
			b.removeTarget(t)
			changed++
		}
	}
	changed += b.changeElements(before, after)
	if changed == 0 {
		return 0, nil
	}
	return changed, f.commit(b)
}

// changeElements makes the difference in the sets.
func (b *batch) changeElements(before, after Want) (changed int) {
	had, have := elementsOf(before), elementsOf(after)
	names := maps.Clone(had)
	maps.Copy(names, have)
	for name := range names {
		changed += b.changeSet(name, had[name], have[name])
	}
	return changed
}

// changeSet makes the difference in one of them.
func (b *batch) changeSet(name string, had, have []nftables.SetElement) (changed int) {
	key := func(e nftables.SetElement) string { return string(e.Key) + "|" + string(e.Val) }
	index := func(list []nftables.SetElement) map[string]bool {
		m := make(map[string]bool, len(list))
		for _, e := range list {
			m[key(e)] = true
		}
		return m
	}
	old, now := index(had), index(have)
	gone := slices.DeleteFunc(slices.Clone(had), func(e nftables.SetElement) bool { return now[key(e)] })
	fresh := slices.DeleteFunc(slices.Clone(have), func(e nftables.SetElement) bool { return old[key(e)] })
	b.remove(name, gone)
	b.add(name, fresh)
	return len(gone) + len(fresh)
}

func (f *Filter) commit(b *batch) error {
	f.made, f.print = 0, nil
	err := b.err
	if err == nil {
		err = b.conn.Flush()
	}
	if err != nil {
		f.clean = false // some failures did commit: look again
		return fmt.Errorf("nftables: change table %s: %w", TableName, err)
	}
	f.clean = true
	if f.made, err = generation(); err != nil {
		f.made = 0
	}
	return nil
}

// Audit compares the kernel with what was last applied, and repairs it.
func (f *Filter) Audit() (Result, error) {
	f.ports.hold(f.want.Ports)
	r := Result{Compared: len(f.want.VIPs) + len(f.want.Ports) + len(f.want.Local) + len(f.want.Peers), Taken: f.ports.taken()}
	found, err := f.differences()
	if err != nil {
		return r, err
	}
	r.Repaired = found
	if len(found) > 0 {
		if _, err := f.replace(); err != nil {
			return r, err
		}
		if _, err := f.differences(); err != nil { // takes the print
			return r, err
		}
	}
	passed, err := f.engineDiffers()
	if err != nil || !passed {
		return r, err
	}
	r.Repaired = append(r.Repaired, "rules in the engine's chain "+engineChain+" missing")
	return r, f.passEngine()
}

// differences says how the table differs from what it was when it was good.
func (f *Filter) differences() ([]string, error) {
	if !f.clean {
		return []string{"table " + TableName + " is not as it was meant to be"}, nil
	}
	now, err := generation()
	if err != nil {
		return nil, err
	}
	if f.print != nil && now == f.made {
		return nil, nil // nobody has changed anything
	}
	seen, err := takePrint()
	if err != nil {
		return nil, err
	}
	if f.print == nil {
		if now != f.made && len(seen) == 0 {
			return []string{"table " + TableName + " missing"}, nil
		}
		if now != f.made && !seen.plausible(targetsOf(f.want)) {
			return []string{"table " + TableName + " has changed"}, nil
		}
		f.print, f.made = seen, now
		return nil, nil
	}
	if found := f.print.differences(seen); len(found) > 0 {
		return found, nil
	}
	f.made = now
	return nil, nil
}

// resetFlows dooms the connections of endpoints that are gone, and those of UDP
// to backends that serve no more.
func (f *Filter) resetFlows(before, after Want) {
	f.flows.doom(ended(before, after), ended(after, before))
}

func ended(before, after Want) doomed {
	return doomed{minus(before.Known, after.Known), minus(backendsOf(before), backendsOf(after))}
}

func backendsOf(w Want) (all []netip.Addr) {
	for _, v := range w.VIPs {
		all = append(all, v.Backends...)
	}
	for _, p := range w.Ports {
		for _, b := range p.Backends {
			all = append(all, b.Addr())
		}
	}
	return all
}

func minus(a, b []netip.Addr) map[netip.Addr]bool {
	keep := make(map[netip.Addr]bool, len(b))
	for _, x := range b {
		keep[x] = true
	}
	gone := map[netip.Addr]bool{}
	for _, x := range a {
		if !keep[x] {
			gone[x] = true
		}
	}
	return gone
}

// Watch calls notify whenever rules have changed by another hand, until ctx
// ends.
func (f *Filter) Watch(ctx context.Context, notify func()) error {
	for {
		err := watchOnce(ctx, notify)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.log.Debug("watching nftables begins anew", "error", err)
		notify()
		select {
		case <-time.After(time.Second): // a kernel that refuses must not be asked all the time
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Purge removes everything that is owned.
func Purge() error {
	conn, err := dial()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, t := range []*nftables.Table{{Name: TableName, Family: nftables.TableFamilyINet}, zonesTable()} {
		conn.AddTable(t) // so that there is one to delete
		conn.DelTable(t)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: remove table %s: %w", TableName, err)
	}
	return removeEngineRules()
}

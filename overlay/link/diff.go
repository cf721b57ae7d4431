package link

import (
	"fmt"
	"slices"
)

// item is one thing in the kernel.
type item interface {
	fmt.Stringer
	on() string
}

// op is one step from what is to what should be.
type op struct {
	item item
	del  bool
	have item // what is there instead; nil: nothing
}

// String says what was found that made the step necessary.
func (o op) String() string {
	switch {
	case o.del:
		return o.item.String() + " not wanted"
	case o.have == nil:
		return o.item.String() + " missing"
	}
	return o.item.String() + " was " + o.have.String()
}

// about is the link that a step is on, or makes.
func (o op) about() string {
	if d, ok := o.item.(device); ok {
		return d.Name
	}
	return o.item.on()
}

// name is the path of a file, "" for all else.
func (o op) name() string {
	s, _ := o.item.(Sysctl)
	return s.Path
}

// diff returns the steps from one picture to another, in the order in which
// they can be taken: what is needed by other things comes first and goes last,
// what takes the place of another replaces it, so that nothing is away for a
// moment, and what is not wanted goes at the end.
func diff(have, want picture) []op {
	ops, fresh := diffDevices(have.devices, want.devices)
	have = have.possible(fresh) // things went with their device
	ops = append(ops, diffBridges(have.bridges, want.bridges)...)
	ops = append(ops, diffSysctls(have.sysctls, want.sysctls)...)

	var gone []op
	gone, ops = diffList(gone, ops, have.addrs, want.addrs, func(a Addr) any { return a })
	gone, ops = diffList(gone, ops, have.neighbours, want.neighbours, neighbourKey)
	// An entry with another destination is replaced, but there may be several:
	// so they are removed nevertheless, those that are still there.
	gone, ops = diffList(gone, ops, have.forwards, want.forwards, func(f forward) any { return f.Forward })
	gone, ops = diffList(gone, ops, have.statics, want.statics, func(s static) any { return static{Link: s.Link, MAC: s.MAC} })
	gone, ops = diffList(gone, ops, have.routes, want.routes, routeKey)
	gone, ops = diffList(gone, ops, have.rules, want.rules, func(r rule) any { return r })
	return append(ops, gone...)
}

func neighbourKey(n Neighbour) any {
	n.MAC = [6]byte{}
	return n
}

func routeKey(r route) any { return r.place() }

// diffDevices also returns the names of devices that are removed, or made anew,
// with all that is on them.
func diffDevices(have, want []device) (ops []op, fresh map[string]bool) {
	wants := make(map[string]device, len(want))
	for _, w := range want {
		wants[w.Name] = w
	}
	fresh = map[string]bool{}
	haves := make(map[string]device, len(have))
	for _, h := range have {
		haves[h.Name] = h
		w, wanted := wants[h.Name]
		if (!wanted && h.Kind == "vxlan") || (wanted && h.another(w)) {
			fresh[h.Name] = true
			ops = append(ops, op{item: h, del: true})
		}
	}
	for _, w := range want {
		switch h, is := haves[w.Name]; {
		case !is || fresh[w.Name]:
			ops = append(ops, op{item: w})
		case h.differs(w):
			ops = append(ops, op{item: w, have: h})
		}
	}
	return ops, fresh
}

// another reports whether w cannot be made out of h. A MAC address could be set
// and a master changed, but the kernel forgets what is on the device then.
func (d device) another(w device) bool {
	return d.Kind != w.Kind || d.VNI != w.VNI || d.Local != w.Local || d.Port != w.Port || d.Odd != w.Odd ||
		(w.MAC != "" && d.MAC != w.MAC) || (d.Master != "" && d.Master != w.Master)
}

// differs reports whether something is to be set.
func (d device) differs(w device) bool {
	return (w.MTU != 0 && d.MTU != w.MTU) || d.Master != w.Master || d.Up != w.Up || d.Flags != w.Flags
}

func diffBridges(have, want []bridge) (ops []op) {
	haves := make(map[string]bridge, len(have))
	for _, h := range have {
		haves[h.Name] = h
	}
	for _, w := range want {
		h, is := haves[w.Name]
		if is && h.Up == w.Up && (w.MTU == 0 || w.MTU == h.MTU) {
			continue
		}
		o := op{item: w}
		if is {
			o.have = h
		}
		ops = append(ops, o)
	}
	return ops
}

// diffSysctls never takes back: what a file held before is not known.
func diffSysctls(have, want []Sysctl) (ops []op) {
	values := make(map[string]string, len(have))
	for _, h := range have {
		values[h.Path] = h.Value
	}
	for _, w := range want {
		switch value, is := values[w.Path]; {
		case !is:
			ops = append(ops, op{item: w})
		case value != w.Value:
			ops = append(ops, op{item: w, have: Sysctl{Path: w.Path, Value: value}})
		}
	}
	return ops
}

// diffList appends what has to come to one list of steps, and what has to go to
// the other. Of two with the same key one replaces the other.
func diffList[T interface {
	comparable
	item
}](gone, come []op, have, want []T, key func(T) any) (goneOps, comeOps []op) {
	out, in := changes(have, want)
	replaced := map[any]item{}
	if len(out) > 0 && len(in) > 0 {
		for _, o := range out {
			replaced[key(o)] = o
		}
	}
	for _, i := range in {
		o := op{item: i}
		if r, is := replaced[key(i)]; is {
			o.have = r
			replaced[key(i)] = nil
		}
		come = append(come, o)
	}
	for _, o := range out {
		if r, is := replaced[key(o)]; is && r == nil {
			continue
		}
		gone = append(gone, op{item: o, del: true})
	}
	return gone, come
}

// changes compares two lists as sets. Where they begin and end with the same
// things, as two versions of a long list do, it costs no more than a look.
func changes[T comparable](old, next []T) (gone, come []T) {
	all := next
	for len(old) > 0 && len(next) > 0 && old[0] == next[0] {
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && old[len(old)-1] == next[len(next)-1] {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	if len(old) == 0 && len(next) == 0 {
		return nil, nil
	}
	left := make(map[T]bool, len(old))
	for _, o := range old {
		left[o] = true
	}
	for _, n := range next {
		if !left[n] {
			left[n] = true // once
			come = append(come, n)
		}
	}
	if len(old) == 0 {
		return nil, come
	}
	stays(all, old, left)
	for _, o := range old {
		if left[o] {
			delete(left, o)
			gone = append(gone, o)
		}
	}
	return gone, come
}

// stays takes out of left what is in all, once or more than once. For a few
// among many that is much faster without the map.
func stays[T comparable](all, old []T, left map[T]bool) {
	const few = 4
	for _, n := range all {
		if len(old) > few || slices.Contains(old, n) {
			delete(left, n)
		}
	}
}

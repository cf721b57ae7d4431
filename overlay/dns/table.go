package dns

import (
	"net/netip"
	"strconv"
	"strings"
)

// Table is all that is known. It must not be changed once it is set.
type Table struct {
	// Clients are the containers of this node, by each of their addresses on a
	// cluster network. Nobody else is answered.
	Clients map[netip.Addr]*Client
	// Suffixes are domains of ours, in lower case and without dots at the ends:
	// a name under one that no zone has does not exist, whoever else is asked.
	Suffixes []string
}

// Client is who asks.
type Client struct {
	Zones []*Zone // its networks; the first that knows a name answers
	// Upstreams are asked for all other names; nil: those of this host. A client
	// with networks that are all internal has NoForward.
	Upstreams []netip.AddrPort
	NoForward bool
}

// Zone is the names on one network.
type Zone struct {
	// Network is its name, in lower case. Every name is also known with the
	// network as its last labels: "web" as "web.backend".
	Network string
	// Names are in lower case, without a final dot. A name without addresses
	// exists and has no records.
	Names map[string][]netip.Addr
	// Reverse names the addresses of the network, fully, for PTR.
	Reverse map[netip.Addr]string
	// Subnets are those of the network: nobody else is asked about addresses in them.
	Subnets []netip.Prefix
}

type verdict int

const (
	foreign verdict = iota // not ours: others may know it
	exists                 // with or without records
	missing                // ours, and there is no such name
)

// found is what the table says of a name.
type found struct {
	verdict verdict
	addrs   []netip.Addr
	ptr     string
	apex    string // of missing: the domain of ours that it would be in; "": the root
}

// find looks a name up for a client; it is in lower case, without a final dot.
func (t *Table) find(c *Client, name string) found {
	for _, z := range c.Zones {
		if addrs, ok := z.lookup(name); ok {
			return found{verdict: exists, addrs: addrs}
		}
	}
	if f := reverse(c, name); f.verdict != foreign {
		return f
	}
	for _, suffix := range t.Suffixes {
		if below(name, suffix) {
			return found{verdict: missing, apex: suffix}
		}
	}
	if numeric(name[strings.LastIndexByte(name, '.')+1:]) {
		return found{verdict: missing} // web.9, a slot that is empty: no top-level domain is a number
	}
	return found{}
}

func (z *Zone) lookup(name string) ([]netip.Addr, bool) {
	if addrs, ok := z.Names[name]; ok {
		return addrs, true
	}
	if len(name) > len(z.Network) && below(name, z.Network) {
		addrs, ok := z.Names[name[:len(name)-len(z.Network)-1]]
		return addrs, ok
	}
	return nil, false
}

// below reports whether a name is a domain or in it.
func below(name, domain string) bool {
	head, ok := strings.CutSuffix(name, domain)
	return ok && domain != "" && (head == "" || head[len(head)-1] == '.')
}

func numeric(label string) bool {
	return label != "" && strings.Trim(label, "0123456789") == ""
}

// reverse looks up a name under in-addr.arpa or ip6.arpa. One that stands for
// more than an address, as 1.168.192.in-addr.arpa, exists without records when
// all of it is in a subnet of ours.
func reverse(c *Client, name string) found {
	prefix, rest, ok := reversePrefix(name)
	if !ok {
		return found{}
	}
	for _, z := range c.Zones {
		if rest == "" && prefix.IsSingleIP() {
			if ptr, ok := z.Reverse[prefix.Addr()]; ok {
				return found{verdict: exists, ptr: ptr}
			}
		}
	}
	for _, z := range c.Zones {
		for _, subnet := range z.Subnets {
			if subnet.Bits() > prefix.Bits() || !subnet.Contains(prefix.Addr()) {
				continue
			}
			if rest == "" && !prefix.IsSingleIP() {
				return found{verdict: exists}
			}
			_, parent, _ := strings.Cut(name, ".")
			return found{verdict: missing, apex: parent}
		}
	}
	return found{}
}

// reversePrefix is the address, or as much of it as there is, that a reverse
// name stands for, and the labels that are in front of it and no part of it.
func reversePrefix(name string) (prefix netip.Prefix, rest string, ok bool) {
	var b [16]byte
	if rest, ok = strings.CutSuffix(name, ".in-addr.arpa"); ok {
		n := 0
		for ; n < 4 && rest != ""; n++ {
			head, label := cutLast(rest)
			v, err := strconv.ParseUint(label, 10, 8)
			if err != nil || len(label) > 1 && label[0] == '0' {
				break
			}
			b[n], rest = byte(v), head
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 8*n), rest, true
	}
	if rest, ok = strings.CutSuffix(name, ".ip6.arpa"); !ok {
		return netip.Prefix{}, "", false
	}
	n := 0
	for ; n < 32 && rest != ""; n++ {
		head, label := cutLast(rest)
		v, err := strconv.ParseUint(label, 16, 4)
		if err != nil || len(label) != 1 {
			break
		}
		b[n/2] |= byte(v) << (4 * (1 - n%2))
		rest = head
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 4*n), rest, true
}

func cutLast(name string) (head, label string) {
	i := strings.LastIndexByte(name, '.')
	return name[:max(i, 0)], name[i+1:]
}

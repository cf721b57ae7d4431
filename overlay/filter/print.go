package filter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// print is what our tables look like: by the name of each chain and named set, a
// digest of what is in it. Handles, which change with every rebuild, are left out.
type print map[string][32]byte

const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8

// nfgenmsg opens every message of netfilter: family, version, resource.
type nfgenmsg [4]byte

func (m nfgenmsg) Len() int          { return len(m) }
func (m nfgenmsg) Serialize() []byte { return m[:] }

func ask(kind, answer, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	r := nl.NewNetlinkRequest(subsystem|kind, flags)
	r.AddData(nfgenmsg{unix.NFPROTO_INET, unix.NFNETLINK_V0})
	for _, a := range attrs {
		r.AddData(a)
	}
	return r.Execute(unix.NETLINK_NETFILTER, uint16(subsystem|answer)) //nolint:gosec // small
}

// generation numbers the transactions of the whole ruleset, those of others
// included.
func generation() (uint32, error) {
	got, err := ask(unix.NFT_MSG_GETGEN, unix.NFT_MSG_NEWGEN, 0)
	if err != nil || len(got) == 0 {
		return 0, fmt.Errorf("nftables: ask for the generation: %w", err)
	}
	attrs, err := nl.ParseRouteAttr(got[0][4:])
	if err != nil {
		return 0, fmt.Errorf("nftables: read the generation: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type&nl.NLA_TYPE_MASK == unix.NFTA_GEN_ID {
			return binary.BigEndian.Uint32(a.Value), nil
		}
	}
	return 0, fmt.Errorf("nftables: the kernel does not tell its generation")
}

// takePrint looks at our tables; the print is empty if there is none.
func takePrint() (print, error) {
	p := print{}
	chains, err := ask(unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_DUMP)
	if err != nil {
		return nil, fmt.Errorf("nftables: list chains: %w", err)
	}
	for _, m := range chains {
		if t := attr(m, unix.NFTA_CHAIN_TABLE); t == TableName || t == ZonesName {
			p.add("chain "+attr(m, unix.NFTA_CHAIN_NAME), m, unix.NFTA_CHAIN_HANDLE, unix.NFTA_CHAIN_USE)
		}
	}
	for _, table := range []string{TableName, ZonesName} {
		if err := p.addRules(table); err != nil {
			return nil, err
		}
	}
	for name := range shapes() {
		if err := p.addSet(name); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p print) addRules(table string) error {
	rules, err := rulesOf(table)
	for _, m := range rules {
		p.add("chain "+attr(m, unix.NFTA_RULE_CHAIN), m, unix.NFTA_RULE_HANDLE, unix.NFTA_RULE_POSITION)
	}
	return err
}

// rulesOf returns the rules of a table as the kernel tells them: the library
// cannot read all that it can be told to write.
func rulesOf(table string) ([][]byte, error) {
	rules, err := ask(unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, unix.NLM_F_DUMP, nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
	if err != nil {
		return nil, fmt.Errorf("nftables: list rules: %w", err)
	}
	return slices.DeleteFunc(rules, func(m []byte) bool { return attr(m, unix.NFTA_RULE_TABLE) != table }), nil
}

func (p print) addSet(name string) error {
	table := TableName
	if name == mapZones {
		table = ZonesName
	}
	messages, err := ask(unix.NFT_MSG_GETSETELEM, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_DUMP,
		nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(table)), nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(name)))
	if err != nil {
		if isGone(err) {
			return nil
		}
		return fmt.Errorf("nftables: list set %s: %w", name, err)
	}
	var elements []string
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttr(m[4:])
		if err != nil {
			return fmt.Errorf("nftables: read set %s: %w", name, err)
		}
		for _, a := range attrs {
			if a.Attr.Type&nl.NLA_TYPE_MASK != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			list, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return fmt.Errorf("nftables: read set %s: %w", name, err)
			}
			for _, e := range list {
				elements = append(elements, string(e.Value))
			}
		}
	}
	sort.Strings(elements) // sets have no order
	h := sha256.New()
	for _, e := range elements {
		fmt.Fprintf(h, "%d:%s", len(e), e)
	}
	p["set "+name] = [32]byte(h.Sum(nil))
	return nil
}

// add mixes a message into a digest, in order, without some attributes.
func (p print) add(name string, message []byte, without ...uint16) {
	h := sha256.New()
	before := p[name]
	h.Write(before[:])
	attrs, err := nl.ParseRouteAttr(message[4:])
	if err != nil {
		h.Write(message)
	}
next:
	for _, a := range attrs {
		kind := a.Attr.Type & nl.NLA_TYPE_MASK
		for _, w := range without {
			if kind == w {
				continue next
			}
		}
		fmt.Fprintf(h, "%d:%d:%s", kind, len(a.Value), a.Value)
	}
	p[name] = [32]byte(h.Sum(nil))
}

// attr returns a name that a message brings.
func attr(message []byte, kind uint16) string {
	return string(bytes.TrimSuffix(attrBytes(message, kind), []byte{0}))
}

func attrBytes(message []byte, kind uint16) []byte { return attrOf(message[4:], kind) }

func attrOf(list []byte, kind uint16) []byte {
	attrs, err := nl.ParseRouteAttr(list)
	if err != nil {
		return nil
	}
	for _, a := range attrs {
		if a.Attr.Type&nl.NLA_TYPE_MASK == kind {
			return a.Value
		}
	}
	return nil
}

// plausible reports whether a table has at least the chains that it should.
func (p print) plausible(targets map[string]target) bool {
	for name := range targets {
		if _, there := p["chain "+name]; !there {
			return false
		}
	}
	return true
}

// differences are a line for each chain and set that is not as it was.
func (p print) differences(now print) (lines []string) {
	if len(now) == 0 {
		return []string{"table " + TableName + " missing"}
	}
	for name, digest := range p {
		switch other, there := now[name]; {
		case !there:
			lines = append(lines, name+" missing")
		case other != digest:
			lines = append(lines, name+" different")
		}
	}
	for name := range now {
		if _, known := p[name]; !known {
			lines = append(lines, name+" is not ours")
		}
	}
	sort.Strings(lines)
	return lines
}

// watchOnce tells of transactions until ctx ends or the kernel has dropped some.
func watchOnce(ctx context.Context, notify func()) error {
	socket, err := subscribe()
	if err != nil {
		return err
	}
	return listen(ctx, socket, notify)
}

func subscribe() (*nl.NetlinkSocket, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, fmt.Errorf("nftables: subscribe: %w", err)
	}
	return socket, nil
}

func listen(ctx context.Context, socket *nl.NetlinkSocket, notify func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		socket.Close()
		return nil
	})
	g.Go(func() error {
		for {
			if _, _, err := socket.Receive(); err != nil {
				return fmt.Errorf("nftables: read events: %w", err)
			}
			notify()
		}
	})
	return g.Wait()
}

package filter

import (
	"bytes"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// engineChain is where the engine lets others decide before its own rules, of
// which the last one drops what it does not know.
const engineChain = "DOCKER-USER"

// engineRules let through what our own chains have let in: what comes from or
// goes to other nodes' containers, and what was sent to one of this node. Before
// that, packets of connections that were let through already: the engine has
// several rules for each network of this node, and all would look at them. They
// are written as iptables itself writes them, so that it can still list them.
// The last one here comes first in the chain.
func engineRules(w Want) [][]expr.Any {
	pass := func(match []expr.Any, more ...expr.Any) []expr.Any {
		return rule(match, more, []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}})
	}
	var rules [][]expr.Any
	if w.MeshLink != "" {
		rules = append(rules, pass(iif(w.MeshLink)), pass(oif(w.MeshLink)))
	}
	if w.MeshBridge != "" {
		rules = append(rules, pass(oif(w.MeshBridge)))
	}
	return append(rules, pass(iifOurs(), known()))
}

// known is for packets of connections that have been let through, or that these
// have brought about: -m conntrack --ctstate RELATED,ESTABLISHED.
func known() expr.Any {
	// XT_CONNTRACK_STATE, and the bits of IP_CT_ESTABLISHED and IP_CT_RELATED.
	const byState, established, related = 1 << 0, 1 << 1, 1 << 2
	return &expr.Match{Name: "conntrack", Rev: 3, Info: &xt.ConntrackMtinfo3{ConntrackMtinfo2: xt.ConntrackMtinfo2{
		ConntrackMtinfoBase: xt.ConntrackMtinfoBase{MatchFlags: byState}, StateMask: established | related,
	}}}
}

// matchOf is what a rule of ours matches: a direction and a link.
func matchOf(exprs []expr.Any) (match string, ours bool) {
	if len(exprs) < 2 {
		return "", false
	}
	m, isMeta := exprs[0].(*expr.Meta)
	c, isCmp := exprs[1].(*expr.Cmp)
	if !isMeta || !isCmp || !bytes.HasPrefix(c.Data, []byte(owned)) {
		return "", false
	}
	return fmt.Sprintf("%d %s", m.Key, bytes.TrimRight(c.Data, "\x00")), true
}

// complete reports whether the rules of ours in a chain are these.
func complete(ours []*nftables.Rule, rules [][]expr.Any) bool {
	left := map[string]int{}
	for _, exprs := range rules {
		match, _ := matchOf(exprs)
		left[match]++
	}
	for _, r := range ours {
		match, _ := matchOf(r.Exprs)
		left[match]--
	}
	for _, n := range left {
		if n != 0 {
			return false
		}
	}
	return true
}

// oursOf finds our rules in an engine's chain: those that match a link of ours
// by name and accept.
func oursOf(rules []*nftables.Rule) (ours []*nftables.Rule) {
	for _, r := range rules {
		if _, is := matchOf(r.Exprs); is {
			ours = append(ours, r)
		}
	}
	return ours
}

// engineChains are the chains for users that there are, with our rules in them.
func engineChains(conn *nftables.Conn, each func(*nftables.Chain, []*nftables.Rule)) error {
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil {
			return fmt.Errorf("nftables: list chains: %w", err)
		}
		for _, c := range chains {
			if c.Name != engineChain || c.Table.Name != "filter" {
				continue
			}
			c.Table.Family = family
			rules, err := conn.GetRules(c.Table, c)
			if err != nil {
				return fmt.Errorf("nftables: list %s: %w", engineChain, err)
			}
			each(c, oursOf(rules))
		}
	}
	return nil
}

// engineDiffers reports whether a chain of the engine lacks a rule of ours.
func (f *Filter) engineDiffers() (differs bool, err error) {
	conn, err := dial()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	want := engineRules(f.want)
	err = engineChains(conn, func(_ *nftables.Chain, ours []*nftables.Rule) { differs = differs || !complete(ours, want) })
	return differs, err
}

// passEngine puts our rules at the head of the engine's chains.
func (f *Filter) passEngine() error { return setEngineRules(engineRules(f.want)) }

func removeEngineRules() error { return setEngineRules(nil) }

func setEngineRules(rules [][]expr.Any) error {
	conn, err := dial()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	changes := false
	var failed error
	err = engineChains(conn, func(chain *nftables.Chain, ours []*nftables.Rule) {
		if complete(ours, rules) {
			return
		}
		for _, r := range ours {
			if err := conn.DelRule(r); err != nil {
				failed = err
			}
		}
		for _, exprs := range rules {
			conn.InsertRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: exprs})
		}
		changes = true
	})
	if err != nil || failed != nil || !changes {
		if err == nil {
			err = failed
		}
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: change %s: %w", engineChain, err)
	}
	return nil
}

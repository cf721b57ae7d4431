package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A client may talk to two nodes from one port of its own, and both may choose
// the same backend: there, the connections cannot be told apart by their
// addresses. So each gets a zone, that of the node it came by, for the direction
// of its first packet; should their replies clash, the kernel gives one of them
// another source port.
//
// All packets of a connection must find its zone, the later ones too: without
// the rule, for as short a time as may be, they belong to connections that nobody
// knows and are reset. So the rule stands in a table of its own, which an
// unchanged node keeps when the other is made anew.
//
// The library cannot say for which direction a zone holds, so this one rule is
// written here.
const (
	ZonesName  = TableName + "_zones"
	chainZones = "zones"
	mapZones   = "zone"
)

func zonesTable() *nftables.Table {
	return &nftables.Table{Name: ZonesName, Family: nftables.TableFamilyINet}
}

// zoneOf numbers a node's zone by its mark.
func zoneOf(mark uint32) []byte {
	return binaryutil.NativeEndian.PutUint16(uint16(mark & 0xffff)) //nolint:gosec // cut on purpose
}

// setZones makes the table what it should be, and touches of it only what is
// not.
func setZones(w Want) error {
	conn, err := dial()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	exprs, err := zoneExprs(w)
	if err != nil {
		return fmt.Errorf("nftables: zones: %w", err)
	}
	b := newBatch(conn)
	wanted := elementsOf(w)[mapZones]
	stands := w.MeshLink != "" && zonesStand(exprs)
	if stands {
		have, err := conn.GetSetElements(b.known(mapZones))
		if err != nil {
			return fmt.Errorf("nftables: list zones: %w", err)
		}
		b.changeSet(mapZones, have, wanted)
	} else {
		b.buildZones(w, wanted)
	}
	if err := errors.Join(b.err, conn.Flush()); err != nil {
		return fmt.Errorf("nftables: change table %s: %w", ZonesName, err)
	}
	if stands || w.MeshLink == "" {
		return nil
	}
	return addZoneRule(exprs)
}

// zonesStand reports whether the rule, and it alone, is there: rules are changed
// as a whole, so the note that comes with it tells what it says.
func zonesStand(exprs []byte) bool {
	rules, err := rulesOf(ZonesName)
	return err == nil && len(rules) == 1 && bytes.Equal(attrBytes(rules[0], unix.NFTA_RULE_USERDATA), noteOf(exprs))
}

// noteOf is short enough for a rule's note, which ends at 256 bytes.
func noteOf(exprs []byte) []byte {
	digest := sha256.Sum256(exprs)
	return digest[:]
}

// buildZones makes the table anew, without its rule.
func (b *batch) buildZones(w Want, zones []nftables.SetElement) {
	t := zonesTable()
	b.conn.AddTable(t) // so that there is one to delete
	b.conn.DelTable(t)
	if w.MeshLink == "" {
		return
	}
	b.conn.AddTable(t)
	b.note(b.conn.AddSet(b.known(mapZones), nil))
	b.add(mapZones, zones)
	b.conn.AddChain(&nftables.Chain{
		Name: chainZones, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: new(nftables.ChainPriority(prioZones)),
	})
}

// addZoneRule puts the rule into its chain, which is empty.
func addZoneRule(exprs []byte) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(ZonesName + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(chainZones + "\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: exprs},
		{Type: unix.NFTA_RULE_USERDATA, Data: noteOf(exprs)},
	})
	if err != nil {
		return fmt.Errorf("nftables: zones: %w", err)
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer conn.Close() //nolint:errcheck // what matters has been answered by then
	end := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	rule := append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attrs...)
	sent, err := conn.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: end},
		{Header: netlink.Header{Type: subsystem | unix.NFT_MSG_NEWRULE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Append}, Data: rule},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: end},
	})
	if err != nil {
		return fmt.Errorf("nftables: zones: %w", err)
	}
	if _, err := conn.Receive(); err != nil {
		return fmt.Errorf("nftables: zones (message %d): %w", sent[1].Header.Sequence, err)
	}
	return nil
}

// zoneExprs are: in by MeshLink, the sender's MAC address, its zone, set.
func zoneExprs(w Want) ([]byte, error) {
	parts := append(iif(w.MeshLink),
		payload(expr.PayloadBaseLLHeader, 6, 6, reg),
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: mapZones})
	var list []netlink.Attribute
	for _, p := range parts {
		data, err := expr.Marshal(unix.NFPROTO_INET, p)
		if err != nil {
			return nil, err
		}
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: data})
	}
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	set, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_CT_KEY, Data: number(unix.NFT_CT_ZONE)},
		{Type: unix.NFTA_CT_SREG, Data: number(reg)},
		{Type: unix.NFTA_CT_DIRECTION, Data: []byte{0}}, // of the first packet
	})
	if err != nil {
		return nil, err
	}
	ct, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_EXPR_NAME, Data: []byte("ct\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_EXPR_DATA, Data: set},
	})
	if err != nil {
		return nil, err
	}
	list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: ct})
	return netlink.MarshalAttributes(list)
}

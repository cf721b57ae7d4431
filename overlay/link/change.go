package link

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// carryOut makes changes in order and returns those that were made. Links that
// are made on the way are found for the changes behind them.
func (k kernel) carryOut(all links, changes changes) (made changes, err error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	defer b.close()
	for _, c := range changes {
		if err := k.change(b, all, c); err != nil {
			return b.made, err
		}
	}
	err = b.flush()
	return b.made, err
}

// change carries one out: at once if it is of a link, else with others.
func (k kernel) change(b *batch, all links, c change) error {
	switch c.what.(type) {
	case named, Bridge:
		if err := b.flush(); err != nil {
			return err
		}
		return b.note(c, k.changeLink(all, c))
	}
	m, err := message(all, c)
	if err != nil {
		return b.note(c, err)
	}
	return b.add(c, m)
}

func (k kernel) changeLink(all links, c change) error {
	if d, ok := c.what.(named); ok {
		return k.changeDevice(all, c.add, d)
	}
	return k.setBridge(all, c.what.(Bridge))
}

func (k kernel) changeDevice(all links, add bool, d named) error {
	link := all[d.name]
	if link != nil && (!add || !d.fits(link)) {
		if err := netlink.LinkDel(link); err != nil && !missing(err) {
			return err
		}
		delete(all, d.name)
		link = nil
	}
	if !add {
		return nil
	}
	if link == nil {
		if err := k.makeDevice(all, d); err != nil {
			return err
		}
		link = all[d.name]
	}
	return k.setDevice(all, link, d)
}

// fits reports whether a link is the device, but for what can be set.
func (d named) fits(l netlink.Link) bool {
	v, ok := l.(*netlink.Vxlan)
	return ok && d.was != nil && uint32(v.VxlanId) == d.vni && d.was.local == d.local && d.was.port == d.port //nolint:gosec // 24 bits
}

// makeDevice makes a VXLAN device. One of ours that has its number, from an
// earlier life, goes first.
func (kernel) makeDevice(all links, d named) error {
	for name, l := range all {
		other, ok := l.(*netlink.Vxlan)
		if !ok || uint32(other.VxlanId) != d.vni || other.Port != d.port { //nolint:gosec // 24 bits
			continue
		}
		if !owned(name) {
			return fmt.Errorf("VXLAN %d on UDP port %d is %s's, which is not shoal's: remove that device, or give the cluster another port with --data-path-port", d.vni, d.port, name)
		}
		if err := netlink.LinkDel(l); err != nil && !missing(err) {
			return err
		}
		delete(all, name)
	}
	v := &netlink.Vxlan{
		LinkAttrs: netlink.NewLinkAttrs(), VxlanId: int(d.vni), SrcAddr: d.local.AsSlice(), Port: d.port,
		Learning: false, L2miss: false, L3miss: false,
	}
	v.Name, v.MTU = d.name, d.mtu
	if d.mac != "" {
		v.HardwareAddr, _ = net.ParseMAC(d.mac) // it was made from an address
	}
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	made, err := netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	all[d.name] = made
	return nil
}

// setDevice sets what can be set on a device that is there.
func (kernel) setDevice(all links, link netlink.Link, d named) error {
	a := link.Attrs()
	if d.mac != "" && a.HardwareAddr.String() != d.mac {
		mac, _ := net.ParseMAC(d.mac) // it was made from an address
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return err
		}
	}
	if a.MTU != d.mtu {
		if err := netlink.LinkSetMTU(link, d.mtu); err != nil {
			return err
		}
	}
	if d.master != "" {
		master, err := all.index(d.master)
		if err != nil {
			return err
		}
		if a.MasterIndex != master {
			if err := netlink.LinkSetMasterByIndex(link, master); err != nil {
				return err
			}
		}
		if err := mute(d.name); err != nil {
			return err
		}
	} else if a.MasterIndex != 0 {
		if err := netlink.LinkSetNoMaster(link); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func (kernel) setBridge(all links, b Bridge) error {
	link := all[b.Name]
	if link == nil {
		return netlink.LinkNotFoundError{}
	}
	if b.MTU != 0 && link.Attrs().MTU != b.MTU {
		if err := netlink.LinkSetMTU(link, b.MTU); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

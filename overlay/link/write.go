package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// do takes the steps in order. Entries, of which there may be ten thousands,
// go to the kernel in bundles.
func (k *rtnetlink) do(ops []op) []error {
	errs := make([]error, 0, len(ops))
	for len(ops) > 0 {
		n := 0
		for n < len(ops) && n < bundle && ops[n].isEntry() {
			n++
		}
		if n > 0 {
			errs = append(errs, k.doEntries(ops[:n])...)
		} else {
			n = 1
			errs = append(errs, k.doOne(ops[0]))
		}
		ops = ops[n:]
	}
	return errs
}

// doOne takes one step; to remove what is not there is no error.
func (k *rtnetlink) doOne(o op) error {
	var err error
	verb := "set"
	if o.del {
		verb = "remove"
	}
	switch i := o.item.(type) {
	case device:
		err = k.doDevice(o, i)
	case bridge:
		err = k.setBridge(i)
	case Sysctl:
		err = writeSysctl(i)
	case Addr:
		err = k.doAddr(o.del, i)
	case route:
		err = k.doRoute(o.del, i)
	case rule:
		err = k.doRule(o.del, i)
	}
	return stepError(o, verb, err)
}

// stepError adds what was tried.
func stepError(o op, verb string, err error) error {
	if err == nil || (o.del && isGone(err)) {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, o.item, err)
}

func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) ||
		errors.Is(err, unix.EADDRNOTAVAIL) || errors.As(err, &netlink.LinkNotFoundError{})
}

// link is enough of a link to name it to the library.
func (k *rtnetlink) link(name string) (netlink.Link, error) {
	index, err := k.indexOf(name)
	if err != nil {
		return nil, err
	}
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index}}, nil
}

func (k *rtnetlink) indexOf(name string) (int, error) {
	if index, is := k.index[name]; is {
		return index, nil
	}
	link, err := k.handle.LinkByName(name)
	if err != nil {
		return 0, err
	}
	k.index[name] = link.Attrs().Index
	return link.Attrs().Index, nil
}

func (k *rtnetlink) doDevice(o op, d device) error {
	if o.del {
		link, err := k.link(d.Name)
		if err != nil {
			return err
		}
		delete(k.index, d.Name)
		return k.handle.LinkDel(link)
	}
	var have device
	if o.have != nil {
		have = o.have.(device)
	} else {
		if err := k.create(d); err != nil {
			return err
		}
		have.MTU = d.MTU
	}
	return k.setDevice(have, d)
}

// create makes a VXLAN. If an older one of ours has its network and port under
// another name, it takes the place of that.
func (k *rtnetlink) create(d device) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, d.MTU
	if d.MAC != "" {
		mac, err := net.ParseMAC(d.MAC)
		if err != nil {
			return err
		}
		attrs.HardwareAddr = mac
	}
	x := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(d.VNI), SrcAddr: d.Local.AsSlice(), Port: d.Port}
	delete(k.index, d.Name)
	err := k.handle.LinkAdd(x)
	if errors.Is(err, unix.EEXIST) {
		if err := k.makeRoom(d); err != nil {
			return err
		}
		x.Index = 0
		err = k.handle.LinkAdd(x)
	}
	return err
}

// makeRoom removes what is in the way of a new VXLAN, if it is ours, and names
// it if not.
func (k *rtnetlink) makeRoom(d device) error {
	var links []netlink.Link
	if err := dump(func() (err error) { links, err = k.handle.LinkList(); return err }); err != nil {
		return err
	}
	for _, link := range links {
		name := link.Attrs().Name
		x, isVXLAN := link.(*netlink.Vxlan)
		clash := isVXLAN && x.Port == d.Port && (uint32(x.VxlanId) == d.VNI || x.FlowBased)
		if name != d.Name && !clash {
			continue
		}
		if !strings.HasPrefix(name, prefix) || !isVXLAN {
			return fmt.Errorf("%s %s is in the way, and not shoal's: remove it: %w", link.Type(), name, errdefs.ErrAlreadyExists)
		}
		if err := k.handle.LinkDel(link); err != nil {
			return fmt.Errorf("remove %s, which is in the way: %w", name, err)
		}
		delete(k.index, name)
	}
	return nil
}

// setDevice sets what differs. The flags of a port come before it is up, so
// that nothing floods.
func (k *rtnetlink) setDevice(have, d device) error {
	link, err := k.link(d.Name)
	if err != nil {
		return err
	}
	if d.MTU != 0 && have.MTU != d.MTU {
		if err := k.handle.LinkSetMTU(link, d.MTU); err != nil {
			return fmt.Errorf("mtu: %w", err)
		}
	}
	if have.Master != d.Master {
		if err := k.setMaster(link, d.Master); err != nil {
			return fmt.Errorf("master: %w", err)
		}
	}
	if d.Master != "" && (have.Master != d.Master || have.Flags != d.Flags) {
		if err := setPortFlags(link.Attrs().Index, d.Flags); err != nil {
			return fmt.Errorf("flags of the port: %w", err)
		}
	}
	if have.Up {
		return nil
	}
	err = k.handle.LinkSetUp(link)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("another program has UDP port %d: %w", d.Port, errdefs.ErrUnavailable)
	}
	return err
}

func (k *rtnetlink) setMaster(link netlink.Link, name string) error {
	master, err := k.indexOf(name)
	if err != nil {
		return err
	}
	return k.handle.LinkSetMasterByIndex(link, master)
}

// setPortFlags sets all flags at once; the library has not all of them.
func setPortFlags(index int, f portFlags) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for kind := uint16(1); kind <= nl.IFLA_BRPORT_ISOLATED; kind++ {
		flag := f.attr(kind)
		if flag == nil {
			continue
		}
		value := uint8(0)
		if *flag {
			value = 1
		}
		info.AddRtAttr(int(kind), nl.Uint8Attr(value))
	}
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (k *rtnetlink) setBridge(b bridge) error {
	link, err := k.link(b.Name)
	if err != nil {
		return err
	}
	if b.MTU != 0 {
		if err := k.handle.LinkSetMTU(link, b.MTU); err != nil {
			return fmt.Errorf("mtu: %w", err)
		}
	}
	return k.handle.LinkSetUp(link)
}

// writeSysctl waits for a directory, but not for a file in one.
func writeSysctl(s Sysctl) error {
	if _, err := os.Stat(filepath.Dir(s.Path)); os.IsNotExist(err) {
		return errWaits
	}
	file, err := os.OpenFile(s.Path, os.O_WRONLY, 0)
	if os.IsNotExist(err) {
		return fmt.Errorf("this kernel has no such file: %w", errdefs.ErrNotImplemented)
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(s.Value)
	return errors.Join(err, file.Close())
}

func (k *rtnetlink) doAddr(del bool, a Addr) error {
	link, err := k.link(a.Link)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(a.Prefix)}
	if del {
		return k.handle.AddrDel(link, addr)
	}
	if a.Prefix.Addr().Is6() {
		// It is used at once, and no route comes with it.
		addr.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	}
	if err := k.handle.AddrAdd(link, addr); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

package check

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// feature is something that the kernel must have.
type feature struct {
	name   string
	module string // that brings it
	try    func() error
}

func wantedFeatures() []feature {
	return []feature{
		{"bridge", "bridge", func() error {
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "shoalbr"}})
		}},
		{"veth", "veth", func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "shoalv0"}, PeerName: "shoalv1"})
		}},
		{"vxlan", "vxlan", func() error {
			return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "shoalvx"}, VxlanId: 1, Port: 4789, SrcAddr: net.IPv4(127, 0, 0, 1)})
		}},
		{"tun", "tun", tryTUN},
		{"nftables nat", "nft_chain_nat", func() error { return tryNAT() }},
		{"nftables fib", "nft_fib_inet", func() error {
			return tryNAT(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true})
		}},
		{"nftables numgen", "nft_numgen", func() error {
			return tryNAT(&expr.Numgen{Register: 1, Modulus: 2, Type: unix.NFT_NG_RANDOM})
		}},
		{"nftables masquerade", "nft_masq", tryMasquerade},
		{"conntrack", "nf_conntrack", tryConntrack},
		{"policy routing", "", tryRule},
	}
}

// features tries what the kernel can do, on a thread that goes into a network
// namespace of its own for that, and comes back: the process's first thread cannot
// end with a goroutine, and /proc/self shows what that one sees.
func features() []Finding {
	done := make(chan []Finding)
	go func() {
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			defer own.Close()
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		found := tryFeatures(err, wantedFeatures())
		if err != nil || unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		done <- found
	}()
	return <-done
}

func tryFeatures(entered error, wanted []feature) (found []Finding) {
	if entered != nil {
		return []Finding{{"kernel", Warn, fmt.Sprintf("its features cannot be tried: %v", entered), "run this as root"}}
	}
	var have []string
	for _, f := range wanted {
		err := f.try()
		if err == nil {
			have = append(have, f.name)
			continue
		}
		remedy := "use a kernel that has it"
		if f.module != "" {
			remedy = fmt.Sprintf("modprobe %s, and name it in /etc/modules-load.d/shoal.conf; a kernel without the module needs to be replaced", f.module)
		}
		found = append(found, Finding{"kernel: " + f.name, Bad, err.Error(), remedy})
	}
	if len(have) > 0 {
		found = append(found, ok("kernel", "%s", strings.Join(have, ", ")))
	}
	return found
}

func tryTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq("shoaltun")
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	return errors.Join(err, unix.Close(fd))
}

// tryNAT makes a table with a chain of NAT and a rule of these expressions, and
// removes it again: the next try begins anew.
func tryNAT(rule ...expr.Any) error {
	return tryChain(nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, rule)
}

func tryMasquerade() error {
	return tryChain(nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, []expr.Any{&expr.Masq{}})
}

func tryChain(hook *nftables.ChainHook, priority *nftables.ChainPriority, rule []expr.Any) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "shoal_try", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{Name: "try", Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	if len(rule) > 0 {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	if err := c.Flush(); err != nil {
		return err
	}
	c.DelTable(table)
	return c.Flush()
}

// tryConntrack comes after NAT, which loads the module.
func tryConntrack() error {
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max")
	return err
}

func tryRule() error {
	rule := netlink.NewRule()
	rule.Mark, rule.Table, rule.Priority = 1, 100, 100
	return netlink.RuleAdd(rule)
}

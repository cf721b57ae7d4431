package check

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// procValue reads a file below /proc/sys; "" is one that is not there.
func procValue(path string) string {
	data, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// sysctls looks at the settings that the data plane leans on.
func sysctls(value func(path string) string) []Finding {
	found := []Finding{ok("ip_forward", "IPv4 is forwarded")}
	if value("net/ipv4/ip_forward") != "1" {
		found[0] = Finding{"ip_forward", Warn, "IPv4 is not forwarded: the Docker Engine switches that on when it starts, unless it has --ip-forward=false", "sysctl -w net.ipv4.ip_forward=1, and keep it in /etc/sysctl.d"}
	}
	switch value("net/ipv6/conf/all/disable_ipv6") {
	case "0":
		found = append(found, ok("ipv6", "IPv6 is on"))
	case "1":
		found = append(found, Finding{"ipv6", Warn, "IPv6 is off: networks with IPv6 and published ports on IPv6 addresses do not work here", "sysctl -w net.ipv6.conf.all.disable_ipv6=0, if they are wanted"})
	default:
		found = append(found, Finding{"ipv6", Warn, "this kernel has no IPv6: networks with IPv6 do not work here", "use a kernel that has it, if they are wanted"})
	}
	if value("net/bridge/bridge-nf-call-iptables") == "" {
		return append(found, Finding{"br_netfilter", Bad, "packets that pass a bridge are not shown to nftables: service addresses would not work between containers of one node", "modprobe br_netfilter, and name it in /etc/modules-load.d/shoal.conf"})
	}
	return append(found, ok("br_netfilter", "the module is there"))
}

// clock asks the kernel whether someone keeps its time right.
func clock() []Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return []Finding{clockFinding(state, t.Status, err)}
}

func clockFinding(state int, status int32, err error) Finding {
	switch {
	case err != nil:
		return Finding{"clock", Warn, fmt.Sprintf("the kernel does not say whether the time is kept right: %v", err), "see that chrony, ntpd or systemd-timesyncd runs"}
	case state == unix.TIME_ERROR || status&unix.STA_UNSYNC != 0:
		return Finding{"clock", Warn, "nobody keeps the time of this host right", "run chrony, ntpd or systemd-timesyncd: certificates have dates, and nodes should agree on the time"}
	}
	return ok("clock", "kept right")
}

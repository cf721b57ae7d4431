package check

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Port is one that shoal listens on.
type Port struct {
	Protocol string // tcp or udp
	Number   int
	For      string
}

// Ports are all that a node listens on.
func Ports(cluster, gossip, vxlan, tunnel int) []Port {
	return []Port{
		{"tcp", cluster, "nodes among themselves"},
		{"tcp", gossip, "gossip"},
		{"udp", gossip, "gossip"},
		{"udp", vxlan, "VXLAN"},
		{"udp", tunnel, "WireGuard"},
	}
}

func ports(wanted []Port) (found []Finding) {
	if len(wanted) == 0 {
		return nil
	}
	var free []string
	for _, p := range wanted {
		if err := tryPort(p); err == nil {
			free = append(free, p.String())
		} else {
			found = append(found, held(p, err, holder(p), vxlanLinks(p)))
		}
	}
	if len(free) > 0 {
		found = append(found, ok("ports", "free: %s", strings.Join(free, ", ")))
	}
	return found
}

// String is the port as operators write it.
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

func tryPort(p Port) error {
	addr := ":" + strconv.Itoa(p.Number)
	if p.Protocol == "udp" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// held says what it means that somebody has a port.
func held(p Port, err error, by process, links []string) Finding {
	check := "port " + p.String()
	const free = "stop what holds it, or let it use another port"
	switch {
	case !errors.Is(err, unix.EADDRINUSE):
		return Finding{check, Bad, fmt.Sprintf("for %s: %v", p.For, err), "run this as root"}
	case by.pid == os.Getpid() || by.name == "shoal":
		return ok(check, "held by shoal, for %s", p.For)
	case by.pid != 0:
		return Finding{check, Bad, fmt.Sprintf("for %s: held by %s (pid %d)", p.For, by.name, by.pid), free}
	case len(links) > 0 && allOurs(links):
		return ok(check, "held by shoal's VXLAN devices")
	case len(links) > 0:
		return Finding{check, Warn, fmt.Sprintf("for %s: VXLAN device %s uses it too, which works as long as the network identifiers differ", p.For, strings.Join(links, ", ")), free}
	}
	return Finding{check, Bad, fmt.Sprintf("for %s: held by the kernel or by a process that this one cannot see", p.For), free}
}

func allOurs(links []string) bool {
	for _, l := range links {
		if !strings.HasPrefix(l, "shoal") {
			return false
		}
	}
	return true
}

// vxlanLinks are the devices whose packets come in on a UDP port.
func vxlanLinks(p Port) (names []string) {
	if p.Protocol != "udp" {
		return nil
	}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil // then it is a port held by nobody we know
	}
	for _, l := range links {
		if v, ok := l.(*netlink.Vxlan); ok && v.Port == p.Number {
			names = append(names, v.Name)
		}
	}
	return names
}

// process is one that holds a port; pid 0: nobody that is known.
type process struct {
	pid  int
	name string
}

func holder(p Port) process {
	inodes := map[string]bool{}
	for _, table := range []string{p.Protocol, p.Protocol + "6"} {
		data, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue // without IPv6 there is one table only
		}
		for _, inode := range socketsOn(string(data), p) {
			inodes["socket:["+inode+"]"] = true
		}
	}
	return holderOf(inodes)
}

// socketsOn finds in a table of /proc/net the sockets that listen on a port.
func socketsOn(table string, p Port) (inodes []string) {
	const listening = "0A"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || p.Protocol == "tcp" && f[3] != listening {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil && int(n) == p.Number && f[9] != "0" {
			inodes = append(inodes, f[9])
		}
	}
	return inodes
}

func holderOf(inodes map[string]bool) process {
	if len(inodes) == 0 {
		return process{}
	}
	paths, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, path := range paths {
		target, err := os.Readlink(path)
		if err != nil || !inodes[target] {
			continue // also those that have gone in the meantime
		}
		dir := filepath.Dir(filepath.Dir(path))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return process{pid, strings.TrimSpace(string(name))}
	}
	return process{}
}

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
			by, unknown := holder(p)
			found = append(found, held(p, errors.Join(err, unknown), by, vxlanLinks(p)))
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
	return Finding{check, Bad, fmt.Sprintf("for %s: held by the kernel or by a process that this one cannot see (%v)", p.For, err), free}
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

// holder finds who has a port. An error says why nobody was found.
func holder(p Port) (by process, err error) {
	inodes := map[string]bool{}
	for _, table := range []string{p.Protocol, p.Protocol + "6"} {
		data, readErr := os.ReadFile("/proc/thread-self/net/" + table)
		if readErr != nil && !errors.Is(readErr, os.ErrNotExist) { // without IPv6 there is one table only
			err = errors.Join(err, readErr)
		}
		for _, inode := range socketsOn(string(data), p) {
			inodes["socket:["+inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return process{}, err
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

// holderOf looks at this process first, then at all others.
func holderOf(inodes map[string]bool) (process, error) {
	pids, err := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range append([]string{"/proc/self"}, pids...) {
		open, readErr := os.ReadDir(filepath.Join(dir, "fd"))
		if readErr != nil && !errors.Is(readErr, os.ErrNotExist) && !errors.Is(readErr, unix.ESRCH) { // those that have gone in the meantime
			err = errors.Join(err, readErr)
		}
		for _, fd := range open {
			if target, _ := os.Readlink(filepath.Join(dir, "fd", fd.Name())); inodes[target] {
				pid, _ := strconv.Atoi(filepath.Base(dir))
				if dir == "/proc/self" {
					pid = os.Getpid()
				}
				name, _ := os.ReadFile(filepath.Join(dir, "comm")) // "" if it has gone
				return process{pid, strings.TrimSpace(string(name))}, nil
			}
		}
	}
	return process{}, err
}

package dns

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// rereadEvery is how old the knowledge of resolv.conf may be.
	rereadEvery = time.Second
	// maxResolvers: the C library reads three; more only make failures slow.
	maxResolvers = 3
	defaultPort  = 53
)

// resolvConf is what a file says of the host's resolvers. The file is looked at
// when it is needed, so nothing runs while nobody asks.
type resolvConf struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	modTime time.Time
	size    int64
	list    []netip.AddrPort
}

// servers are the resolvers as of now, at most rereadEvery old. While the file
// cannot be read those that were in it last are used.
func (r *resolvConf) servers(now time.Time) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.looked.IsZero() && now.Sub(r.looked) < rereadEvery {
		return r.list
	}
	first := r.looked.IsZero()
	r.looked = now
	info, err := os.Stat(r.path)
	if err == nil && !first && info.ModTime().Equal(r.modTime) && info.Size() == r.size {
		return r.list
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(r.path)
	}
	if err != nil {
		r.log.Warn("resolvers of this host unknown", "file", r.path, "error", err)
		return r.list
	}
	r.modTime, r.size = info.ModTime(), info.Size()
	r.list = parseResolvConf(string(text))
	if len(r.list) == 0 {
		r.log.Warn("no resolver is listed: containers can resolve only names of the cluster", "file", r.path)
	}
	return r.list
}

// parseResolvConf reads the nameserver lines of resolv.conf(5). An address may
// have a port, as in "[192.0.2.1]:5353"; what cannot be read is left out.
func parseResolvConf(text string) (list []netip.AddrPort) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(list) == maxResolvers {
			continue
		}
		if at, ok := parseServer(fields[1]); ok {
			list = append(list, at)
		}
	}
	return list
}

func parseServer(s string) (netip.AddrPort, bool) {
	if host, port, ok := strings.Cut(s, "]:"); ok && strings.HasPrefix(host, "[") {
		if addr, err := netip.ParseAddr(host[1:]); err == nil && addr.Is4() {
			s = addr.String() + ":" + port // as BSD and OpenVPN write it
		}
	}
	if at, err := netip.ParseAddrPort(s); err == nil {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), at.Port() != 0
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return netip.AddrPortFrom(addr.Unmap(), defaultPort), err == nil
}

// Package check finds out whether a host can be a good node: what its kernel
// can do, what is in the way of shoal's ports and subnets, and, towards other
// nodes, what gets through.
//
// It changes nothing. What has to be tried is tried in a network namespace that
// goes away with the thread that made it.
package check

import (
	"context"
	"fmt"
	"net/netip"
)

// Level says how much a finding matters.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // works, but not for everyone or not for ever
	Bad  Level = "bad"  // does not work
)

// Finding is what one check has found.
type Finding struct {
	Check  string `json:"check"` // what was looked at, in a word or two
	Level  Level  `json:"level"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do; none for what is well
}

// Engine answers for the Docker Engine of the host.
type Engine interface {
	Version(ctx context.Context) (version string, err error)
}

// Options is what the checks of a host need. All are optional.
type Options struct {
	Advertise netip.Addr     // that others reach this host at; zero: the one towards the default route
	Subnets   []netip.Prefix // in use by the cluster: the host must not have routes into them
	Pools     []netip.Prefix // that networks will be taken from
	Ports     []Port         // that must be free, or shoal's
	Engine    Engine         // nil: not asked
}

// DefaultSubnets are in use by every cluster: the pool of gateway networks.
func DefaultSubnets() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.252.0.0/14")}
}

// DefaultPools are what Swarm takes networks from if it is not told otherwise.
func DefaultPools() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }

// Host looks at this host. Every check gives at least one finding.
func Host(ctx context.Context, o Options) []Finding {
	var found []Finding
	found = append(found, features()...)
	found = append(found, sysctls(procValue)...)
	found = append(found, forwarding()...)
	found = append(found, ports(o.Ports)...)
	found = append(found, addresses(o)...)
	found = append(found, clock()...)
	if o.Engine != nil {
		found = append(found, engine(ctx, o.Engine))
	}
	return found
}

func ok(check, format string, args ...any) Finding {
	return Finding{Check: check, Level: OK, Detail: fmt.Sprintf(format, args...)}
}

func engine(ctx context.Context, e Engine) Finding {
	const check = "engine"
	version, err := e.Version(ctx)
	if err != nil {
		return Finding{check, Bad, err.Error(), "start the Docker Engine, or name its socket with --engine"}
	}
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return Finding{check, Warn, fmt.Sprintf("Docker Engine %s: its version cannot be read", version), "see that it is 20.10 or later"}
	}
	if major < 20 || major == 20 && minor < 10 {
		return Finding{check, Bad, "Docker Engine " + version, "install 20.10 or later"}
	}
	return ok(check, "Docker Engine %s", version)
}

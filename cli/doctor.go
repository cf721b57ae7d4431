package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"shoal/cli/format"
	"shoal/internal/node"
	"shoal/overlay"
	"shoal/overlay/check"
)

// codeBad is the exit code of doctor and preflight when something does not work.
const codeBad = 1

func (s *shell) doctorCommand() *command {
	var form string
	f := &flags{}
	f.choice(&form, "format", "Form of the answer", "table", "json").def("table")
	return &command{
		name: "doctor", operands: "[OPTIONS]", short: "Examine all nodes and the ways between them",
		long:  "Has every node compare its kernel with what it should be, look at its host, and probe all others.\nExits with 1 if something does not work. See also: shoal preflight.",
		flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			var d check.Diagnosis
			if err := s.getJSON(ctx, "/shoal/v1/doctor", &d); err != nil {
				return err
			}
			if form == "json" {
				if err := s.printJSON(d); err != nil {
					return err
				}
			} else if err := format.WriteDiagnosis(s.out, d); err != nil {
				return err
			}
			return badIf(d.Bad())
		},
	}
}

func (s *shell) preflightCommand() *command {
	form, advertise, engine := "", "", defaultEngine
	f := &flags{}
	f.choice(&form, "format", "Form of the answer", "table", "json").def("table")
	f.add(&address{p: &advertise, asGiven: true, port: "2377"}, "address", "advertise-addr", "Address other nodes will reach this one at (format: IP|INTERFACE[:PORT])")
	f.text(&engine, "engine", "Docker Engine that will run the containers (format: unix:///PATH)").def(defaultEngine)
	return &command{
		name: "preflight", operands: "[OPTIONS]", short: "Examine this host before it joins a cluster",
		long:  "Looks at the kernel, the firewall, ports, routes, the clock and the engine. It needs no daemon and changes nothing.\nExits with 1 if something does not work. See also: shoal doctor.",
		flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			if err := (&daemonFlags{stateDir: defaultStateDir, engine: engine}).check(); err != nil {
				return err
			}
			o := check.Options{
				Subnets: check.DefaultSubnets(), Pools: check.DefaultPools(), Engine: engineAt(engine),
				Ports: check.Ports(2377, defaultGossipPort, overlay.DefaultPort, overlay.TunnelPort),
			}
			var err error
			if o.Advertise, err = advertised(advertise); err != nil {
				return badFlag("advertise-addr", advertise, "%v", err)
			}
			return s.writeFindings(check.Host(ctx, o), form)
		},
	}
}

func (s *shell) writeFindings(found []check.Finding, form string) error {
	if form == "json" {
		if err := s.printJSON(found); err != nil {
			return err
		}
	} else if err := format.WriteFindings(s.out, found); err != nil {
		return err
	}
	return badIf(slices.ContainsFunc(found, func(f check.Finding) bool { return f.Level == check.Bad }))
}

func (s *shell) printJSON(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// badIf ends the program without another word: what is bad was printed.
func badIf(bad bool) error {
	if bad {
		return &exitError{code: codeBad}
	}
	return nil
}

// advertised is the IP address of what --advertise-addr names.
func advertised(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = text
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), nil
	}
	link, err := net.InterfaceByName(host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is neither an IP address nor a network interface", host)
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of interface %s: %w", host, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			return p.Addr().Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no usable IP address", host)
}

// engineAt is the engine at a unix:// address.
type engineAt string

// Version implements check.Engine.
func (e engineAt) Version(ctx context.Context) (string, error) {
	return node.EngineVersion(ctx, string(e))
}

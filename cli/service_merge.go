package cli

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

// whole is the key of lists whose entries are their own key.
func whole(s string) string { return s }

// keyOf is the part before "=".
func keyOf(s string) string {
	k, _, _ := strings.Cut(s, "=")
	return k
}

// merge removes and adds by key. An entry keeps its place when its value
// changes, so that the order of env stays what the user wrote. Sorted, where
// the order has no meaning, an update that changes nothing changes nothing.
func (p pair) merge(list []string, key func(string) string, sorted bool) []string {
	out := make([]string, 0, len(list)+len(p.add))
	at := map[string]int{}
	put := func(s string) {
		if i, ok := at[key(s)]; ok {
			out[i] = s
			return
		}
		at[key(s)] = len(out)
		out = append(out, s)
	}
	for _, s := range list {
		if !slices.Contains(p.rm, key(s)) {
			put(s)
		}
	}
	for _, s := range p.add {
		put(s)
	}
	if sorted {
		sort.Strings(out)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (p pair) mergeMap(m map[string]string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	for _, key := range p.rm {
		delete(out, keyOf(key))
	}
	maps.Copy(out, opts.ConvertKVStringsToMap(p.add))
	return out
}

func (s *serviceFlags) applyLists(spec *swarm.ServiceSpec) error {
	c := spec.TaskTemplate.ContainerSpec
	if !s.update || len(s.labels.add)+len(s.labels.rm) > 0 {
		spec.Labels = s.labels.mergeMap(spec.Labels)
	}
	if len(s.containerLabels.add)+len(s.containerLabels.rm) > 0 {
		c.Labels = s.containerLabels.mergeMap(c.Labels)
	}
	if len(s.sysctls.add)+len(s.sysctls.rm) > 0 {
		c.Sysctls = s.sysctls.mergeMap(c.Sysctls)
	}
	c.Env = s.env.merge(c.Env, keyOf, false)
	c.Groups = s.groups.merge(c.Groups, whole, s.update)
	if len(s.dns.add)+len(s.dns.rm)+len(s.dnsOptions.add)+len(s.dnsOptions.rm)+len(s.dnsSearch.add)+len(s.dnsSearch.rm) > 0 {
		d := swarm.DNSConfig{}
		if c.DNSConfig != nil {
			d = *c.DNSConfig
		}
		d.Nameservers = s.dns.merge(d.Nameservers, whole, s.update)
		d.Options = s.dnsOptions.merge(d.Options, whole, s.update)
		d.Search = s.dnsSearch.merge(d.Search, whole, s.update)
		c.DNSConfig = &d
	}
	c.Hosts = mergeHosts(c.Hosts, s.hosts)
	c.Ulimits = s.mergeUlimits(c.Ulimits)
	c.Mounts = s.mergeMounts(c.Mounts)
	return s.applyEndpoint(spec)
}

// applyEndpoint also refuses what dnsrr cannot do.
func (s *serviceFlags) applyEndpoint(spec *swarm.ServiceSpec) error {
	if !s.changed("endpoint-mode", "publish", "publish-add", "publish-rm") {
		return nil
	}
	e := swarm.EndpointSpec{}
	if spec.EndpointSpec != nil {
		e = *spec.EndpointSpec
	}
	set(s, "endpoint-mode", &e.Mode, swarm.ResolutionMode(s.endpointMode))
	e.Ports = mergePorts(e.Ports, s.ports.Value(), s.portsRemoved.Value())
	seen := map[string]bool{}
	for _, p := range e.Ports {
		if e.Mode == swarm.ResolutionModeDNSRR && p.PublishMode != swarm.PortConfigPublishModeHost {
			return fmt.Errorf("--endpoint-mode dnsrr cannot publish port %d in ingress mode: use vip, or mode=host", p.TargetPort)
		}
		key := fmt.Sprintf("%d/%s", p.PublishedPort, p.Protocol)
		if p.PublishedPort != 0 && seen[key] {
			return fmt.Errorf("--publish: port %s is published twice", key)
		}
		seen[key] = true
	}
	spec.EndpointSpec = &e
	return nil
}

func mergePorts(have, add, rm []swarm.PortConfig) []swarm.PortConfig {
	var out []swarm.PortConfig
	put := func(p swarm.PortConfig) {
		if !slices.ContainsFunc(out, func(q swarm.PortConfig) bool { return portText(p) == portText(q) }) {
			out = append(out, p)
		}
	}
	for _, p := range have {
		if !slices.ContainsFunc(rm, func(q swarm.PortConfig) bool { return samePort(p, q) }) {
			put(p)
		}
	}
	for _, p := range add {
		put(p)
	}
	sort.Slice(out, func(i, j int) bool { return portText(out[i]) < portText(out[j]) })
	return out
}

func portText(p swarm.PortConfig) string {
	return fmt.Sprintf("%v:%v/%s/%s", p.PublishedPort, p.TargetPort, protocolOf(p), modeOf(p))
}

func protocolOf(p swarm.PortConfig) swarm.PortConfigProtocol {
	if p.Protocol == "" {
		return swarm.PortConfigProtocolTCP
	}
	return p.Protocol
}

func modeOf(p swarm.PortConfig) swarm.PortConfigPublishMode {
	if p.PublishMode == "" {
		return swarm.PortConfigPublishModeIngress
	}
	return p.PublishMode
}

// samePort: --publish-rm means a target port; the published one is ignored.
func samePort(p, q swarm.PortConfig) bool {
	return p.TargetPort == q.TargetPort && protocolOf(p) == protocolOf(q) && modeOf(p) == modeOf(q)
}

func (s *serviceFlags) mergeMounts(have []mount.Mount) []mount.Mount {
	added := s.mounts.Value()
	if len(added)+len(s.mountsRemoved) == 0 {
		return have
	}
	out := slices.Clone(added)
	for _, m := range have {
		replaced := slices.ContainsFunc(added, func(n mount.Mount) bool { return n.Target == m.Target })
		if !replaced && !slices.Contains(s.mountsRemoved, m.Target) {
			out = append(out, m)
		}
	}
	if s.update {
		sort.Slice(out, func(i, j int) bool {
			if out[i].Source != out[j].Source {
				return out[i].Source < out[j].Source
			}
			return out[i].Target < out[j].Target
		})
	}
	return out
}

func (s *serviceFlags) mergeUlimits(have []*container.Ulimit) []*container.Ulimit {
	out := s.ulimits.GetList()
	for _, u := range have {
		replaced := slices.ContainsFunc(out, func(n *container.Ulimit) bool { return n.Name == u.Name })
		if !replaced && !slices.Contains(s.ulimitsRemoved, u.Name) {
			out = append(out, u)
		}
	}
	if len(out) == 0 {
		return nil
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// mergeHosts works on "IP name [alias...]" lines; HOST or HOST:IP removes.
func mergeHosts(have []string, p pair) []string {
	var out []string
	put := func(line string) {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	for _, entry := range have {
		fields := strings.Fields(entry)
		if len(fields) == 0 {
			continue
		}
		names := slices.DeleteFunc(slices.Clone(fields[1:]), func(name string) bool {
			return slices.ContainsFunc(p.rm, func(rm string) bool {
				host, ip, _ := strings.Cut(rm, ":")
				return host == name && (ip == "" || ip == fields[0])
			})
		})
		if len(names) > 0 {
			put(fields[0] + " " + strings.Join(names, " "))
		}
	}
	for _, add := range p.add {
		host, ip, _ := strings.Cut(add, ":")
		put(ip + " " + host)
	}
	return out
}

func (s *serviceFlags) applyGeneric(t *swarm.TaskSpec) error {
	if len(s.generic.add)+len(s.generic.rm) == 0 {
		return nil
	}
	r := resources(t).Reservations
	byKind := map[string]int64{}
	for _, g := range r.GenericResources {
		if g.DiscreteResourceSpec == nil {
			return fmt.Errorf("invalid generic-resource `%+v` for service task", g)
		}
		byKind[g.DiscreteResourceSpec.Kind] = g.DiscreteResourceSpec.Value
	}
	for _, kind := range s.generic.rm {
		if _, ok := byKind[kind]; !ok {
			return fmt.Errorf("could not find generic-resource `%s` to remove it", kind)
		}
		delete(byKind, kind)
	}
	for _, add := range s.generic.add {
		kind, number, _ := strings.Cut(add, "=")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return badFlag("generic-resource", add, "must be KIND=NUMBER")
		}
		byKind[kind] = n
	}
	r.GenericResources = nil
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		r.GenericResources = append(r.GenericResources, swarm.GenericResource{
			DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: kind, Value: byKind[kind]},
		})
	}
	return nil
}

// mergeCapabilities: on update, adding a dropped capability only takes it off
// the dropped ones, and the other way round; adding wins over dropping.
func mergeCapabilities(update bool, haveAdd, haveDrop, add, drop []string) (added, dropped []string) {
	if !update {
		return opts.EffectiveCapAddCapDrop(add, drop)
	}
	capAdd, capDrop := opts.CapabilitiesMap(haveAdd), opts.CapabilitiesMap(haveDrop)
	toAdd, toDrop := opts.CapabilitiesMap(add), opts.CapabilitiesMap(drop)
	if toAdd[opts.ResetCapabilities] {
		clear(capAdd)
		delete(toAdd, opts.ResetCapabilities)
	}
	if toDrop[opts.ResetCapabilities] {
		clear(capDrop)
		delete(toDrop, opts.ResetCapabilities)
	}
	for c := range toDrop {
		if toAdd[c] {
			continue
		}
		if capAdd[c] {
			delete(capAdd, c)
		} else {
			capDrop[c] = true
		}
	}
	for c := range toAdd {
		if capDrop[c] {
			delete(capDrop, c)
		} else {
			capAdd[c] = true
		}
	}
	return capabilityList(capAdd), capabilityList(capDrop)
}

func capabilityList(set map[string]bool) []string {
	if set[opts.AllCapabilities] {
		return []string{opts.AllCapabilities}
	}
	return slices.Sorted(maps.Keys(set))
}

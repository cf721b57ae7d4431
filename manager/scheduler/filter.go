package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
	"shoal/raftstore/state"
)

// demand is what the tasks of one revision ask of a node.
type demand struct {
	resources   resources
	generic     []swarm.DiscreteGenericResource
	constraints []constraint.Constraint
	badSyntax   error // of the constraints: nothing can match
	platforms   []swarm.Platform
	hostPorts   []hostPort
	maxReplicas uint64
	plugins     []swarm.PluginDescription // volume and log drivers
	spread      []label                   // of the placement preferences
}

func newDemand(r *state.Revision) *demand {
	d, spec := &demand{}, r.Spec.TaskTemplate
	if spec.Resources != nil && spec.Resources.Reservations != nil {
		reserved := spec.Resources.Reservations
		d.resources = resources{reserved.NanoCPUs, reserved.MemoryBytes}
		for _, g := range reserved.GenericResources {
			if g.DiscreteResourceSpec != nil {
				d.generic = append(d.generic, *g.DiscreteResourceSpec)
			}
		}
	}
	if spec.Placement != nil {
		d.place(spec.Placement)
	}
	if e := r.Spec.EndpointSpec; e != nil {
		for _, p := range e.Ports {
			if p.PublishMode == swarm.PortConfigPublishModeHost && p.PublishedPort != 0 {
				d.hostPorts = append(d.hostPorts, hostPortOf(p))
			}
		}
	}
	d.plugins = neededPlugins(spec)
	return d
}

func hostPortOf(p swarm.PortConfig) hostPort {
	return hostPort{cmp.Or(p.Protocol, swarm.PortConfigProtocolTCP), p.PublishedPort}
}

func (d *demand) place(p *swarm.Placement) {
	d.constraints, d.badSyntax = constraint.Parse(p.Constraints)
	d.platforms, d.maxReplicas = p.Platforms, p.MaxReplicas
	for _, preference := range p.Preferences {
		if preference.Spread == nil {
			continue
		}
		if l, ok := labelOf(preference.Spread.SpreadDescriptor); ok {
			d.spread = append(d.spread, l)
		}
	}
}

func neededPlugins(spec swarm.TaskSpec) (needed []swarm.PluginDescription) {
	if spec.LogDriver != nil && spec.LogDriver.Name != "" && spec.LogDriver.Name != "none" {
		needed = append(needed, swarm.PluginDescription{Type: "Log", Name: spec.LogDriver.Name})
	}
	if spec.ContainerSpec == nil {
		return needed
	}
	for _, m := range spec.ContainerSpec.Mounts {
		if m.Type == mount.TypeVolume && m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil && m.VolumeOptions.DriverConfig.Name != "" {
			needed = append(needed, swarm.PluginDescription{Type: "Volume", Name: m.VolumeOptions.DriverConfig.Name})
		}
	}
	return needed
}

// filter is one thing that is asked of a node: refuse says why the node cannot
// take one more task, as the words that stand before "on N nodes", and is empty
// if it can; mend, for advice, lists what would change that.
type filter struct {
	refuse func(n *nodeInfo, d *demand, serviceID string) string
	mend   func(a *adviser, n *nodeInfo) []fault
}

// filters are all of them, in the order in which they are asked: the first one
// that refuses is the reason that users see.
var filters = [...]filter{ //nolint:gochecknoglobals // a constant table
	{refuseAvailability, mendAvailability},
	{refuseCPU, mendCPU},
	{refuseMemory, mendMemory},
	{refuseGeneric, mendGeneric},
	{refusePlugins, mendPlugins},
	{refuseConstraints, mendConstraints},
	{refusePlatform, mendPlatform},
	{refusePorts, mendPorts},
	{refuseReplicas, mendReplicas},
}

// reject returns why the node cannot take one more task with this demand; empty
// if it can.
func (n *nodeInfo) reject(d *demand, serviceID string) string {
	if n.node == nil {
		return unavailable
	}
	for i := range filters {
		if reason := filters[i].refuse(n, d, serviceID); reason != "" {
			return reason
		}
	}
	return ""
}

const unavailable = "not available for new tasks"

func refuseAvailability(n *nodeInfo, _ *demand, _ string) string {
	if n.node.Status.State != swarm.NodeStateReady || n.node.Spec.Availability != swarm.NodeAvailabilityActive {
		return unavailable
	}
	return ""
}

func (n *nodeInfo) freeCPU() int64 {
	return n.node.Description.Resources.NanoCPUs - n.reserved.nanoCPUs
}

func refuseCPU(n *nodeInfo, d *demand, _ string) string {
	if d.resources.nanoCPUs > 0 && d.resources.nanoCPUs > n.freeCPU() {
		return "insufficient CPU"
	}
	return ""
}

func (n *nodeInfo) freeMemory() int64 {
	return n.node.Description.Resources.MemoryBytes - n.reserved.memory
}

func refuseMemory(n *nodeInfo, d *demand, _ string) string {
	if d.resources.memory > 0 && d.resources.memory > n.freeMemory() {
		return "insufficient memory"
	}
	return ""
}

func refuseGeneric(n *nodeInfo, d *demand, _ string) string {
	if kind := n.missing(d.generic); kind != "" {
		return "insufficient " + kind
	}
	return ""
}

func refusePlugins(n *nodeInfo, d *demand, _ string) string {
	for _, p := range d.plugins {
		if !n.has(p) {
			return fmt.Sprintf("missing %s plugin %s", strings.ToLower(p.Type), p.Name)
		}
	}
	return ""
}

func refuseConstraints(n *nodeInfo, d *demand, _ string) string {
	if d.badSyntax != nil || !constraint.MatchAll(d.constraints, Facts(n.node)) {
		return "scheduling constraints not satisfied"
	}
	return ""
}

func refusePlatform(n *nodeInfo, d *demand, _ string) string {
	if !platformFits(d.platforms, n.node.Description.Platform) {
		return "unsupported platform"
	}
	return ""
}

func refusePorts(n *nodeInfo, d *demand, _ string) string {
	for _, p := range d.hostPorts {
		if n.ports[p] > 0 {
			return "host-mode port already in use"
		}
	}
	return ""
}

func refuseReplicas(n *nodeInfo, d *demand, serviceID string) string {
	if d.maxReplicas > 0 && n.byService[serviceID] >= int(d.maxReplicas) { //nolint:gosec // far below 2^63
		return "max replicas per node limit exceed"
	}
	return ""
}

// has reports whether the node's engine has a plugin. An engine that lists no
// plugins of the type at all is not known well enough to be refused.
func (n *nodeInfo) has(p swarm.PluginDescription) bool {
	listed := false
	for _, have := range n.node.Description.Engine.Plugins {
		if have.Type != p.Type {
			continue
		}
		listed = true
		if have.Name == p.Name || have.Name == p.Name+":latest" {
			return true
		}
	}
	return !listed
}

// Facts returns what constraints may ask about a node.
func Facts(n *state.Node) constraint.Facts {
	return constraint.Facts{
		ID: n.ID, Hostname: n.Description.Hostname, IP: n.Status.Addr, Role: string(n.Spec.Role),
		OS: n.Description.Platform.OS, Arch: n.Description.Platform.Architecture,
		NodeLabels: n.Spec.Labels, EngineLabels: n.Description.Engine.Labels,
	}
}

// Unmet returns the constraints of a placement that a node does not meet.
func Unmet(n *state.Node, p *swarm.Placement) (failed []string) {
	if p == nil {
		return nil
	}
	for _, text := range p.Constraints {
		parsed, err := constraint.Parse([]string{text})
		if err != nil || !constraint.MatchAll(parsed, Facts(n)) {
			failed = append(failed, text)
		}
	}
	return failed
}

func platformFits(wanted []swarm.Platform, have swarm.Platform) bool {
	if len(wanted) == 0 {
		return true
	}
	return slices.ContainsFunc(wanted, func(w swarm.Platform) bool {
		return (w.OS == "" || w.OS == have.OS) && (w.Architecture == "" || normalArch(w.Architecture) == normalArch(have.Architecture))
	})
}

// normalArch gives the machine names of uname the names that images use.
func normalArch(arch string) string {
	switch arch {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return arch
}

// explain says why no node is suitable: reasons with the number of nodes that
// gave each, the most common first.
func explain(reasons map[string]int) string {
	if len(reasons) == 0 {
		return "no suitable node (the cluster has no nodes)"
	}
	names := make([]string, 0, len(reasons))
	for r := range reasons {
		names = append(names, r)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	})
	for i, r := range names {
		unit := "nodes"
		if reasons[r] == 1 {
			unit = "node"
		}
		names[i] = fmt.Sprintf("%s on %d %s", r, reasons[r], unit)
	}
	return "no suitable node (" + strings.Join(names, "; ") + ")"
}

package format

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"
)

// PrettyService prints a service as `service inspect --pretty` does. network
// gives names for network IDs.
func PrettyService(w io.Writer, s swarm.Service, now time.Time, network func(id string) string) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("\nID:\t\t%s\nName:\t\t%s", s.ID, s.Spec.Name)
	if len(s.Spec.Labels) > 0 {
		p("Labels:")
		labels(p, " ", s.Spec.Labels)
	}
	prettyMode(p, s.Spec.Mode)
	prettyStatus(p, s.UpdateStatus, now)
	prettyPlacement(p, s.Spec.TaskTemplate.Placement)
	prettyUpdate(p, "UpdateConfig", "Update order:      ", s.Spec.UpdateConfig)
	prettyUpdate(p, "RollbackConfig", "Rollback order:    ", s.Spec.RollbackConfig)
	if c := s.Spec.TaskTemplate.ContainerSpec; c != nil {
		prettyContainer(p, c)
	}
	if d := s.Spec.TaskTemplate.LogDriver; d != nil {
		p("Log Driver:\n Name:\t\t%s", d.Name)
		if len(d.Options) > 0 {
			p(" LogOpts:")
			for _, k := range slices.Sorted(maps.Keys(d.Options)) {
				p("  %s:       %s", k, d.Options[k])
			}
		}
	}
	prettyResources(p, s.Spec.TaskTemplate.Resources)
	if nets := s.Spec.TaskTemplate.Networks; len(nets) > 0 {
		var names []string
		for _, n := range nets {
			names = append(names, network(n.Target))
		}
		p("Networks: %s", strings.Join(names, " "))
	}
	prettyEndpoint(p, s)
	p("")
}

func prettyMode(p func(string, ...any), m swarm.ServiceMode) {
	name := Title(mode(m))
	p("Service Mode:\t%s", name)
	if m.Replicated != nil && m.Replicated.Replicas != nil {
		p(" Replicas:\t%d", *m.Replicated.Replicas)
	}
}

func prettyStatus(p func(string, ...any), u *swarm.UpdateStatus, now time.Time) {
	if u == nil || u.State == "" {
		return
	}
	p("UpdateStatus:\n State:\t\t%s", u.State)
	if u.StartedAt != nil {
		p(" Started:\t%s ago", units.HumanDuration(now.Sub(*u.StartedAt)))
	}
	if u.State == swarm.UpdateStateCompleted && u.CompletedAt != nil {
		p(" Completed:\t%s ago", units.HumanDuration(now.Sub(*u.CompletedAt)))
	}
	p(" Message:\t%s", u.Message)
}

func prettyPlacement(p func(string, ...any), pl *swarm.Placement) {
	p("Placement:")
	if pl == nil {
		return
	}
	if len(pl.Constraints) > 0 {
		p(" Constraints:\t%s", pl.Constraints)
	}
	var prefs []string
	for _, pref := range pl.Preferences {
		if pref.Spread != nil {
			prefs = append(prefs, "spread="+pref.Spread.SpreadDescriptor)
		}
	}
	if len(prefs) > 0 {
		p(" Preferences:   %s", prefs)
	}
	if pl.MaxReplicas > 0 {
		p(" Max Replicas Per Node:   %d", pl.MaxReplicas)
	}
}

func prettyUpdate(p func(string, ...any), title, order string, u *swarm.UpdateConfig) {
	if u == nil {
		return
	}
	p("%s:\n Parallelism:\t%d", title, u.Parallelism)
	if u.Delay > 0 {
		p(" Delay:\t\t%s", u.Delay)
	}
	p(" On failure:\t%s", u.FailureAction)
	if u.Monitor > 0 {
		p(" Monitoring Period: %s", u.Monitor)
	}
	p(" Max failure ratio: %v\n %s%s", u.MaxFailureRatio, order, u.Order)
}

func prettyContainer(p func(string, ...any), c *swarm.ContainerSpec) {
	p("ContainerSpec:\n Image:\t\t%s", c.Image)
	line := func(label string, words []string) {
		if len(words) > 0 {
			p(" %s\t\t%s ", label, strings.Join(words, " "))
		}
	}
	line("Args:", c.Args)
	line("Env:", c.Env)
	if c.Dir != "" {
		p(" Dir:\t\t%s", c.Dir)
	}
	if c.Init != nil {
		p(" Init:\t\t%t", *c.Init)
	}
	if c.User != "" {
		p(" User: %s", c.User)
	}
	if len(c.CapabilityAdd)+len(c.CapabilityDrop) > 0 {
		p("Capabilities:")
		if len(c.CapabilityAdd) > 0 {
			p(" Add: %s", strings.Join(c.CapabilityAdd, ", "))
		}
		if len(c.CapabilityDrop) > 0 {
			p(" Drop: %s", strings.Join(c.CapabilityDrop, ", "))
		}
	}
	if len(c.Sysctls) > 0 {
		p("SysCtls:")
		for _, k := range slices.Sorted(maps.Keys(c.Sysctls)) {
			p(" %s: %s", k, c.Sysctls[k])
		}
	}
	if len(c.Ulimits) > 0 {
		p("Ulimits:")
		for _, u := range c.Ulimits {
			p(" %s: %d:%d", u.Name, u.Soft, u.Hard)
		}
	}
	prettyFiles(p, c)
}

func prettyFiles(p func(string, ...any), c *swarm.ContainerSpec) {
	if len(c.Mounts) > 0 {
		p("Mounts:")
	}
	for _, m := range c.Mounts {
		p(" Target:\t%s\n  Source:\t%s\n  ReadOnly:\t%t\n  Type:\t\t%s", m.Target, m.Source, m.ReadOnly, m.Type)
	}
	if len(c.Configs) > 0 {
		p("Configs:")
	}
	for _, ref := range c.Configs {
		if ref.File != nil {
			p(" Target:\t%s\n  Source:\t%s", ref.File.Name, ref.ConfigName)
		}
	}
	if len(c.Secrets) > 0 {
		p("Secrets:")
	}
	for _, ref := range c.Secrets {
		if ref.File != nil {
			p(" Target:\t%s\n  Source:\t%s", ref.File.Name, ref.SecretName)
		}
	}
}

func prettyResources(p func(string, ...any), r *swarm.ResourceRequirements) {
	if r == nil {
		return
	}
	p("Resources:")
	amount := func(cpus, memory int64) {
		if cpus > 0 {
			p("  CPU:\t\t%v", float64(cpus)/1e9)
		}
		if memory > 0 {
			p("  Memory:\t%s", units.BytesSize(float64(memory)))
		}
	}
	if v := r.Reservations; v != nil && (v.NanoCPUs > 0 || v.MemoryBytes > 0) {
		p(" Reservations:")
		amount(v.NanoCPUs, v.MemoryBytes)
	}
	if l := r.Limits; l != nil && (l.NanoCPUs > 0 || l.MemoryBytes > 0 || l.Pids > 0) {
		p(" Limits:")
		amount(l.NanoCPUs, l.MemoryBytes)
		if l.Pids > 0 {
			p("  PIDs:\t\t%d", l.Pids)
		}
	}
}

func prettyEndpoint(p func(string, ...any), s swarm.Service) {
	var mode swarm.ResolutionMode
	if s.Spec.EndpointSpec != nil {
		mode = s.Spec.EndpointSpec.Mode
	}
	p("Endpoint Mode:\t%s", mode)
	if len(s.Endpoint.Ports) > 0 {
		p("Ports:")
	}
	for _, port := range s.Endpoint.Ports {
		p(" PublishedPort = %d\n  Protocol = %s\n  TargetPort = %d\n  PublishMode = %s", port.PublishedPort, port.Protocol, port.TargetPort, port.PublishMode)
	}
	if c := s.Spec.TaskTemplate.ContainerSpec; c != nil && c.Healthcheck != nil {
		h := c.Healthcheck
		p(" Healthcheck:\n  Interval = %s\n  Retries = %d\n  StartPeriod =\t%s\n  Timeout =\t%s", h.Interval, h.Retries, h.StartPeriod, h.Timeout)
		if len(h.Test) > 0 {
			p("  Tests:")
		}
		for _, test := range h.Test {
			p("\t Test = %s", test)
		}
	}
}

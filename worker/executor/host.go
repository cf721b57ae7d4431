package executor

import (
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"

	"shoal/worker/assignment"
)

func hostConfig(spec *assignment.Spec, c *swarm.ContainerSpec, ports nat.PortMap) *container.HostConfig {
	h := &container.HostConfig{
		Resources: resources(spec.Task.Resources, c), GroupAdd: c.Groups, PortBindings: ports, Mounts: c.Mounts,
		ReadonlyRootfs: c.ReadOnly, Isolation: c.Isolation, Init: c.Init, Sysctls: c.Sysctls,
		CapAdd: c.CapabilityAdd, CapDrop: c.CapabilityDrop, OomScoreAdj: int(c.OomScoreAdj),
		ExtraHosts: extraHosts(c.Hosts), SecurityOpt: securityOpt(c.Privileges),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled}, // a new task is the only restart
	}
	if c.DNSConfig != nil {
		h.DNS, h.DNSSearch, h.DNSOptions = c.DNSConfig.Nameservers, c.DNSConfig.Search, c.DNSConfig.Options
	}
	if d := spec.Task.LogDriver; d != nil {
		h.LogConfig = container.LogConfig{Type: d.Name, Config: d.Options}
	}
	for _, n := range spec.Task.Networks {
		if predefined(n.Target) {
			h.NetworkMode = container.NetworkMode(n.Target)
		}
	}
	return h
}

// resources takes the limits only: reservations steer where a task runs, they
// do not bind its container.
func resources(r *swarm.ResourceRequirements, c *swarm.ContainerSpec) container.Resources {
	res := container.Resources{Ulimits: c.Ulimits}
	if r == nil || r.Limits == nil {
		return res
	}
	res.Memory, res.NanoCPUs = r.Limits.MemoryBytes, r.Limits.NanoCPUs
	if pids := r.Limits.Pids; pids > 0 {
		res.PidsLimit = &pids
	}
	return res
}

// extraHosts turns lines of a hosts file ("IP name [alias…]") into the
// engine's "name:IP", aliases too (Swarm drops those).
func extraHosts(lines []string) []string {
	var hosts []string
	for _, line := range lines {
		words := strings.Fields(line)
		for i := 1; i < len(words); i++ {
			hosts = append(hosts, words[i]+":"+words[0])
		}
	}
	return hosts
}

func securityOpt(p *swarm.Privileges) []string {
	if p == nil {
		return nil
	}
	var opts []string
	add := func(prefix, value string) {
		if value != "" {
			opts = append(opts, prefix+value)
		}
	}
	if cs := p.CredentialSpec; cs != nil {
		add("credentialspec=file://", cs.File)
		add("credentialspec=registry://", cs.Registry)
		add("credentialspec=config://", cs.Config)
	}
	if se := p.SELinuxContext; se != nil {
		if se.Disable {
			add("label=", "disable")
		}
		add("label=user:", se.User)
		add("label=role:", se.Role)
		add("label=level:", se.Level)
		add("label=type:", se.Type)
	}
	if p.Seccomp != nil {
		switch p.Seccomp.Mode {
		case swarm.SeccompModeUnconfined:
			add("seccomp=", "unconfined")
		case swarm.SeccompModeCustom:
			add("seccomp=", string(p.Seccomp.Profile))
		case swarm.SeccompModeDefault: // the engine's own
		}
	}
	if p.AppArmor != nil && p.AppArmor.Mode == swarm.AppArmorModeDisabled {
		add("apparmor=", "unconfined")
	}
	if p.NoNewPrivileges {
		add("no-new-privileges=", "true")
	}
	return opts
}

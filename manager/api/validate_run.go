package api

import (
	"encoding/json"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
)

// validateRun checks what the engine would refuse on every node, and what one
// half of a service's spec cannot have with the other.
func validateRun(r *runspec.Spec, spec *swarm.ServiceSpec) error {
	if r == nil {
		return nil
	}
	for _, err := range []error{
		validateImageRun(r),
		validateNamespaces(r, spec.TaskTemplate.ContainerSpec),
		validateMacAddress(r.MacAddress, spec),
		validateExposed(r.ExposedPorts),
		validateSecurityOpts(r.SecurityOpt, spec.TaskTemplate.ContainerSpec.Privileges),
		validateRunMaps(r, spec.TaskTemplate.ContainerSpec),
		validateRunResources(&r.Resources, spec.TaskTemplate.Resources),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func validateImageRun(r *runspec.Spec) error {
	switch r.Pull {
	case "", runspec.PullAlways, runspec.PullMissing, runspec.PullNever:
	default:
		return rpcInvalid("invalid Run.Pull %q, allowed are always, missing and never", r.Pull)
	}
	if r.Platform != "" && !regexp.MustCompile(`^[a-z0-9_.-]+(/[a-z0-9_.-]+){0,2}$`).MatchString(r.Platform) {
		return rpcInvalid("invalid Run.Platform %q, expected OS[/ARCH[/VARIANT]] in lower case, such as linux/arm64", r.Platform)
	}
	return nil
}

func validateNamespaces(r *runspec.Spec, c *swarm.ContainerSpec) error {
	for _, mode := range []struct {
		field, given string
		allowed      []string
	}{
		{"IpcMode", string(r.IpcMode), []string{"none", "private", "shareable", "host"}},
		{"PidMode", string(r.PidMode), []string{"host"}},
		{"UTSMode", string(r.UTSMode), []string{"host"}},
		{"UsernsMode", string(r.UsernsMode), []string{"host"}},
		{"CgroupnsMode", string(r.CgroupnsMode), []string{"private", "host"}},
	} {
		if strings.HasPrefix(mode.given, "container:") {
			return rpcInvalid("invalid Run.%s %q: a task cannot share a namespace with another container, allowed are %s", mode.field, mode.given, strings.Join(mode.allowed, ", "))
		}
		if mode.given != "" && !slices.Contains(mode.allowed, mode.given) {
			return rpcInvalid("invalid Run.%s %q, allowed are %s", mode.field, mode.given, strings.Join(mode.allowed, ", "))
		}
	}
	switch {
	case r.UTSMode == "host" && c.Hostname != "":
		return rpcInvalid("conflicting options: hostname and the UTS mode (ContainerSpec.Hostname, Run.UTSMode)")
	case r.UTSMode == "host" && r.Domainname != "":
		return rpcInvalid("conflicting options: domainname and the UTS mode (Run.Domainname, Run.UTSMode)")
	case !isHostname(r.Domainname):
		return rpcInvalid("invalid Run.Domainname %q: at most 64 letters, digits, '-', '_' and '.' are allowed", r.Domainname)
	case r.ShmSize < 0:
		return rpcInvalid("SHM size can not be less than 0 (Run.ShmSize is %d)", r.ShmSize)
	}
	return nil
}

// validateMacAddress: on networks of the cluster the hardware address follows
// from the IP address, so that all nodes know it.
func validateMacAddress(address string, spec *swarm.ServiceSpec) error {
	if address == "" {
		return nil
	}
	if mac, err := net.ParseMAC(address); err != nil || len(mac) != 6 {
		return rpcInvalid("%s is not a valid mac address (Run.MacAddress)", address)
	}
	for _, n := range spec.TaskTemplate.Networks {
		if n.Target != "bridge" {
			return rpcInvalid("Run.MacAddress is for services on each node's bridge only, this one is on network %s", n.Target)
		}
	}
	if e := spec.EndpointSpec; e != nil {
		for _, p := range e.Ports {
			if p.PublishMode == swarm.PortConfigPublishModeIngress {
				return rpcInvalid("Run.MacAddress is for services on each node's bridge only, this one publishes port %d: use mode=host", p.TargetPort)
			}
		}
	}
	return nil
}

func validateExposed(ports []string) error {
	for i, port := range ports {
		number, protocol, _ := strings.Cut(port, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
			return rpcInvalid("invalid Run.ExposedPorts[%d] %q, expected PORT/tcp, PORT/udp or PORT/sctp", i, port)
		}
	}
	return nil
}

// validateSecurityOpts also refuses what ContainerSpec.Privileges says already.
func validateSecurityOpts(options []string, p *swarm.Privileges) error {
	if p == nil {
		p = &swarm.Privileges{}
	}
	said := map[string]bool{
		"label": p.SELinuxContext != nil, "apparmor": p.AppArmor != nil && p.AppArmor.Mode != "",
		"seccomp": p.Seccomp != nil && p.Seccomp.Mode != "", "no-new-privileges": p.NoNewPrivileges,
	}
	for i, opt := range options {
		field := "Run.SecurityOpt[" + itoa(i) + "]"
		key, value, found := strings.Cut(opt, "=")
		if !found && key != "no-new-privileges" {
			key, value, found = strings.Cut(opt, ":")
		}
		switch {
		case !securityOptAllowed(key, value, found):
			return rpcInvalid("invalid --security-opt %d: %q (%s): allowed are label=, apparmor=, seccomp=unconfined|builtin|JSON,"+
				" no-new-privileges[=true|false], writable-cgroups=true|false and systempaths=unconfined", i+1, shortened(opt), field)
		case said[key]:
			return rpcInvalid("%s: %s is set by ContainerSpec.Privileges already", field, key)
		}
	}
	return nil
}

func securityOptAllowed(key, value string, found bool) bool {
	switch key {
	case "label", "apparmor":
		return value != ""
	case "seccomp":
		return value == "unconfined" || value == "builtin" || json.Valid([]byte(value))
	case "no-new-privileges":
		_, err := strconv.ParseBool(value)
		return !found || err == nil
	case "writable-cgroups":
		_, err := strconv.ParseBool(value)
		return err == nil
	case "systempaths":
		return value == "unconfined"
	}
	return false
}

// shortened keeps a profile out of a message.
func shortened(s string) string {
	const enough = 80
	if len(s) <= enough {
		return s
	}
	return s[:enough] + "..."
}

func validateRunMaps(r *runspec.Spec, c *swarm.ContainerSpec) error {
	for field, m := range map[string]map[string]string{"Annotations": r.Annotations, "StorageOpt": r.StorageOpt} {
		for k := range m {
			if strings.TrimSpace(k) == "" {
				return rpcInvalid("invalid Run.%s: a key is empty", field)
			}
		}
	}
	for target := range r.Tmpfs {
		if !path.IsAbs(target) || path.Clean(target) == "/" {
			return rpcInvalid("invalid Run.Tmpfs: mount path %q must be absolute, and not /", target)
		}
		for _, m := range c.Mounts {
			if path.Clean(m.Target) == path.Clean(target) {
				return rpcInvalid("duplicate mount point: %s (Run.Tmpfs and ContainerSpec.Mounts)", target)
			}
		}
	}
	return nil
}

package api

import (
	"encoding/json"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

func validateContainer(spec *swarm.ServiceSpec) error {
	c := spec.TaskTemplate.ContainerSpec
	for _, err := range []error{
		validateImage(c.Image),
		validateLabels("ContainerSpec.Labels", c.Labels),
		validateProcess(c),
		validateHealth(c.Healthcheck),
		validateNames(c),
		validateKernel(c),
		validatePrivileges(c.Privileges),
		validateMounts(c.Mounts),
	} {
		if err != nil {
			return err
		}
	}
	return validateTemplates(spec)
}

func validateImage(image string) error {
	if image == "" {
		return rpcInvalid("ContainerSpec: image reference must be provided")
	}
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return rpcInvalid("ContainerSpec: %q is not a valid repository/tag", image)
	}
	return nil
}

// validateProcess checks what the engine would refuse on every node.
func validateProcess(c *swarm.ContainerSpec) error {
	for i, kv := range c.Env {
		if kv == "" || kv[0] == '=' || strings.ContainsRune(kv, 0) {
			return rpcInvalid("ContainerSpec: invalid environment variable: %q (Env[%d])", kv, i)
		}
	}
	for _, words := range [][]string{c.Command, c.Args} {
		if slices.ContainsFunc(words, func(w string) bool { return strings.ContainsRune(w, 0) }) {
			return rpcInvalid("ContainerSpec: Command and Args cannot hold a zero byte")
		}
	}
	switch {
	case c.Dir != "" && !path.IsAbs(c.Dir):
		return rpcInvalid("ContainerSpec: the working directory '%s' is invalid, it needs to be an absolute path", c.Dir)
	case c.StopSignal != "" && !isSignal(c.StopSignal):
		return rpcInvalid("ContainerSpec: invalid signal: %s (StopSignal)", c.StopSignal)
	case deref(c.StopGracePeriod) < 0:
		return rpcInvalid("ContainerSpec: StopGracePeriod cannot be negative")
	case c.Isolation != container.IsolationDefault:
		return invalid("invalid Isolation: %q, nodes run Linux and allow only %q", c.Isolation, container.IsolationDefault)
	case slices.Contains(c.Groups, ""):
		return rpcInvalid("ContainerSpec: a group in Groups is empty")
	}
	return nil
}

// isSignal: a number, or a name with or without SIG.
func isSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n >= 1 && n <= 64
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if rest, ok := strings.CutPrefix(name, "RTM"); ok {
		base, offset, found := strings.Cut(strings.ReplaceAll(rest, "-", "+"), "+")
		n, err := strconv.Atoi(offset)
		return (base == "IN" || base == "AX") && (!found || err == nil && n >= 0 && n <= 30)
	}
	return unix.SignalNum("SIG"+name) != 0
}

func validateHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	if len(h.Test) > 0 {
		switch h.Test[0] {
		case "NONE", "CMD", "CMD-SHELL":
		default:
			return rpcInvalid("ContainerSpec: unknown type %q in Test of HealthConfig, allowed are NONE, CMD and CMD-SHELL", h.Test[0])
		}
	}
	const least = "1ms"
	switch {
	case !validDuration(h.Interval):
		return rpcInvalid("ContainerSpec: Interval in HealthConfig cannot be less than %s", least)
	case !validDuration(h.Timeout):
		return rpcInvalid("ContainerSpec: Timeout in HealthConfig cannot be less than %s", least)
	case !validDuration(h.StartPeriod):
		return rpcInvalid("ContainerSpec: StartPeriod in HealthConfig cannot be less than %s", least)
	case !validDuration(h.StartInterval):
		return rpcInvalid("ContainerSpec: StartInterval in HealthConfig cannot be less than %s", least)
	case h.Retries < 0:
		return rpcInvalid("ContainerSpec: Retries in HealthConfig cannot be negative")
	}
	return nil
}

// validateNames checks what the container knows other hosts by.
func validateNames(c *swarm.ContainerSpec) error {
	for i, line := range c.Hosts {
		words := strings.Fields(line)
		if len(words) < 2 {
			return rpcInvalid("ContainerSpec: invalid Hosts[%d] %q, expected \"IP NAME [ALIAS...]\"", i, line)
		}
		if _, err := netip.ParseAddr(words[0]); err != nil && words[0] != "host-gateway" {
			return rpcInvalid("ContainerSpec: invalid Hosts[%d] %q, %q is not an IP address", i, line, words[0])
		}
	}
	if c.DNSConfig == nil {
		return nil
	}
	for i, server := range c.DNSConfig.Nameservers {
		if _, err := netip.ParseAddr(server); err != nil {
			return rpcInvalid("ContainerSpec: invalid DNSConfig.Nameservers[%d]: %s is not an ip address", i, server)
		}
	}
	for field, values := range map[string][]string{"Search": c.DNSConfig.Search, "Options": c.DNSConfig.Options} {
		if slices.Contains(values, "") {
			return rpcInvalid("ContainerSpec: an entry of DNSConfig.%s is empty", field)
		}
	}
	return nil
}

func validateKernel(c *swarm.ContainerSpec) error {
	for k := range c.Sysctls {
		if strings.TrimSpace(k) == "" || strings.ContainsAny(k, " =") {
			return rpcInvalid("ContainerSpec: invalid Sysctls key %q", k)
		}
	}
	for field, caps := range map[string][]string{"CapabilityAdd": c.CapabilityAdd, "CapabilityDrop": c.CapabilityDrop} {
		for _, name := range caps {
			if !isCapability(name) {
				return rpcInvalid("ContainerSpec: invalid %s: unknown capability: %q", field, name)
			}
		}
	}
	seen := map[string]bool{}
	for i, u := range c.Ulimits {
		if u == nil {
			return rpcInvalid("ContainerSpec: Ulimits[%d] is null", i)
		}
		text := u.Name + "=" + strconv.FormatInt(u.Soft, 10) + ":" + strconv.FormatInt(u.Hard, 10)
		if _, err := units.ParseUlimit(text); err != nil {
			return rpcInvalid("ContainerSpec: invalid Ulimits[%d]: %v", i, err)
		}
		if seen[u.Name] {
			return rpcInvalid("ContainerSpec: invalid Ulimits[%d]: %s is given twice", i, u.Name)
		}
		seen[u.Name] = true
	}
	if c.OomScoreAdj < -1000 || c.OomScoreAdj > 1000 {
		return rpcInvalid("ContainerSpec: invalid OomScoreAdj %d, allowed are -1000 to 1000", c.OomScoreAdj)
	}
	return nil
}

const capabilities = " AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE" +
	" DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN" +
	" NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT" +
	" SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM ALL "

func isCapability(name string) bool {
	short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	return short != "" && !strings.Contains(short, " ") && strings.Contains(capabilities, " "+short+" ")
}

func validatePrivileges(p *swarm.Privileges) error {
	if p == nil {
		return nil
	}
	if s := p.Seccomp; s != nil {
		switch s.Mode {
		case "", swarm.SeccompModeDefault, swarm.SeccompModeUnconfined:
			if len(s.Profile) > 0 {
				return rpcInvalid("ContainerSpec: Privileges.Seccomp.Profile needs mode custom, not %q", s.Mode)
			}
		case swarm.SeccompModeCustom:
			if !json.Valid(s.Profile) {
				return rpcInvalid("ContainerSpec: Privileges.Seccomp.Profile must be valid JSON in mode custom")
			}
		default:
			return rpcInvalid("ContainerSpec: invalid Privileges.Seccomp.Mode %q, allowed are default, unconfined and custom", s.Mode)
		}
	}
	if a := p.AppArmor; a != nil {
		switch a.Mode {
		case "", swarm.AppArmorModeDefault, swarm.AppArmorModeDisabled:
		default:
			return rpcInvalid("ContainerSpec: invalid Privileges.AppArmor.Mode %q, allowed are default and disabled", a.Mode)
		}
	}
	return nil
}

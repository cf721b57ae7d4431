package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

// placementPrefs are spread=DESCRIPTOR preferences.
type placementPrefs []swarm.PlacementPreference

// Set implements value.
func (p *placementPrefs) Set(s string) error {
	strategy, arg, ok := strings.Cut(s, "=")
	if !ok || strategy == "" {
		return errors.New(`placement preference must be of the format "<strategy>=<arg>"`)
	}
	if strategy != "spread" {
		return fmt.Errorf("unsupported placement preference %s (only spread is supported)", strategy)
	}
	if !strings.HasPrefix(arg, "node.labels.") && !strings.HasPrefix(arg, "engine.labels.") {
		return errors.New(`spread must name "node.labels.KEY" or "engine.labels.KEY"`)
	}
	*p = append(*p, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: arg}})
	return nil
}

func (p *placementPrefs) String() string {
	var out []string
	for _, pref := range *p {
		out = append(out, "spread="+pref.Spread.SpreadDescriptor)
	}
	return strings.Join(out, ", ")
}

// credentialSpec is a config://, file:// or registry:// reference.
type credentialSpec struct {
	source string
	spec   swarm.CredentialSpec
}

// Set implements value; "" removes the spec on update.
func (c *credentialSpec) Set(s string) error {
	scheme, rest, ok := strings.Cut(s, "://")
	spec := swarm.CredentialSpec{}
	switch {
	case s == "":
	case ok && rest != "" && scheme == "config":
		spec.Config = rest
	case ok && rest != "" && scheme == "file":
		spec.File = rest
	case ok && rest != "" && scheme == "registry":
		spec.Registry = rest
	default:
		return errors.New(`invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"`)
	}
	c.source, c.spec = s, spec
	return nil
}

func (c *credentialSpec) String() string { return c.source }

// positive refuses negative numbers of Docker's option types.
type positive struct {
	inner interface {
		value
		Value() int64
	}
}

// Set implements value.
func (p positive) Set(s string) error {
	if err := p.inner.Set(s); err != nil {
		return err
	}
	if p.inner.Value() < 0 {
		return errors.New("must not be negative")
	}
	return nil
}

func (p positive) String() string { return p.inner.String() }

// cpus is a number of CPUs. Only plain decimals: big.Rat, which parses Docker's,
// would compute any exponent.
type cpus struct{ p *opts.NanoCPUs }

// Set implements value.
func (c cpus) Set(s string) error {
	if !regexp.MustCompile(`^[0-9]{0,6}(\.[0-9]+)?$`).MatchString(s) || s == "" {
		return errors.New("must be a decimal number from 0 to 999999")
	}
	return c.p.Set(s)
}

func (c cpus) String() string {
	if c.p == nil {
		return ""
	}
	return c.p.String()
}

// mountValue refuses what Docker's own parser leaves to the server.
type mountValue struct{ *opts.MountOpt }

// Set implements value.
func (m *mountValue) Set(s string) error {
	if err := m.MountOpt.Set(s); err != nil {
		return err
	}
	all := m.Value()
	last := all[len(all)-1]
	switch last.Type {
	case mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs, mount.TypeNamedPipe, mount.TypeCluster:
	case mount.TypeImage:
		return errors.New(`mount type "image" is not supported by services`)
	default:
		return fmt.Errorf("unknown mount type %q", last.Type)
	}
	if !strings.HasPrefix(last.Target, "/") && last.Type != mount.TypeNamedPipe {
		return fmt.Errorf("target %q must be an absolute path", last.Target)
	}
	if last.Type == mount.TypeBind && !strings.HasPrefix(last.Source, "/") {
		return fmt.Errorf("source %q of a bind mount must be an absolute path", last.Source)
	}
	if last.Type == mount.TypeTmpfs && last.Source != "" {
		return errors.New("a tmpfs mount has no source")
	}
	for _, other := range all[:len(all)-1] {
		if other.Target == last.Target {
			return fmt.Errorf("duplicate mount target %s", last.Target)
		}
	}
	return nil
}

// networkValue refuses options that only `docker run` has.
type networkValue struct{ *opts.NetworkOpt }

// Set implements value.
func (n *networkValue) Set(s string) error {
	if err := n.NetworkOpt.Set(s); err != nil {
		return err
	}
	all := n.Value()
	last := all[len(all)-1]
	if strings.TrimSpace(last.Target) == "" {
		return errors.New("network name/id is not specified")
	}
	if last.IPv4Address != "" || last.IPv6Address != "" || last.MacAddress != "" || len(last.LinkLocalIPs) > 0 || last.GwPriority != 0 {
		return errors.New("ip, ip6, mac-address, link-local-ip and gw-priority are not for services")
	}
	return nil
}

func validateKey(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}

// validateGeneric takes KIND=NUMBER.
func validateGeneric(s string) (string, error) {
	kind, number, ok := strings.Cut(s, "=")
	if !ok || kind == "" {
		return "", fmt.Errorf("invalid generic-resource format `%s` expected `name=value`", s)
	}
	if n, err := strconv.ParseInt(number, 10, 64); err != nil || n <= 0 {
		return "", fmt.Errorf("invalid generic-resource request `%s`: the value must be a whole number of 1 or more", s)
	}
	return s, nil
}

// validateConstraint takes KEY==VALUE and KEY!=VALUE with a key that can match.
func validateConstraint(s string) (string, error) {
	key, val, ok := strings.Cut(s, "==")
	if k, v, not := strings.Cut(s, "!="); not && (!ok || len(k) < len(key)) {
		key, val, ok = k, v, true
	}
	if !ok {
		return "", errors.New(`must be KEY==VALUE or KEY!=VALUE, for example "node.role==worker"`)
	}
	key, val = strings.TrimSpace(key), strings.TrimSpace(val)
	if !constraintKey(key) {
		return "", fmt.Errorf("key %q is unknown; allowed are node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.KEY and engine.labels.KEY", key)
	}
	if val == "" {
		return "", fmt.Errorf("no value for key %q", key)
	}
	if !regexp.MustCompile(`^[\w:\-. *()?+\[\]\\^$|/]+$`).MatchString(val) {
		return "", fmt.Errorf("value %q has a character that is not allowed", val)
	}
	if lower := strings.ToLower(val); strings.EqualFold(key, "node.role") && lower != "manager" && lower != "worker" {
		return "", fmt.Errorf(`value %q of node.role must be "manager" or "worker"`, val)
	}
	return s, nil
}

func constraintKey(key string) bool {
	switch strings.ToLower(key) {
	case "node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch":
		return true
	}
	return regexp.MustCompile(`^(?i:node|engine)\.(?i:labels)\.[A-Za-z0-9_][\w.\-]*$`).MatchString(key)
}

func validateCapability(s string) (string, error) {
	if !regexp.MustCompile(`^[A-Za-z][A-Za-z_]*$`).MatchString(s) {
		return "", errors.New(`must be a capability such as "NET_ADMIN", or "ALL" or "RESET"`)
	}
	return s, nil
}

// stopSignal is a name or a number.
type stopSignal struct{ p *string }

// Set implements value.
func (g *stopSignal) Set(s string) error {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return errors.New("must be a signal from 1 to 64")
		}
	} else if !regexp.MustCompile(`^(?i)(SIG)?[A-Z][A-Z0-9]*([+-][0-9]+)?$`).MatchString(s) {
		return errors.New(`must be a signal such as "SIGTERM" or 15`)
	}
	*g.p = s
	return nil
}

func (g *stopSignal) String() string {
	if g.p == nil {
		return ""
	}
	return *g.p
}

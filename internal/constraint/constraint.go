// Package constraint reads placement constraints and says which nodes meet
// them. The grammar is Docker Swarm's: `node.labels.zone == a`.
package constraint

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Facts are what constraints may ask about a node.
type Facts struct {
	ID, Hostname, IP, Role string
	OS, Arch               string
	NodeLabels             map[string]string // given by users
	EngineLabels           map[string]string // of the node's Docker Engine
}

// Constraint is one expression: a key that is, or is not, a value.
type Constraint struct {
	key     string
	value   string
	negated bool
}

var (
	keyPattern   = regexp.MustCompile(`^(?i)[a-z_][a-z0-9\-_.]+$`)
	valuePattern = regexp.MustCompile(`^(?i)[a-z0-9:\-_\s\.\*\(\)\?\+\[\]\\\^\$\|\/]+$`)
)

// Parse reads expressions, all of which a node must meet.
func Parse(expressions []string) ([]Constraint, error) {
	if len(expressions) == 0 {
		return nil, nil
	}
	constraints := make([]Constraint, 0, len(expressions))
	for _, e := range expressions {
		c, err := parse(e)
		if err != nil {
			return nil, err
		}
		constraints = append(constraints, c)
	}
	return constraints, nil
}

func parse(expression string) (Constraint, error) {
	for _, operator := range []string{"==", "!="} {
		key, value, found := strings.Cut(expression, operator)
		if !found {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !keyPattern.MatchString(key) {
			return Constraint{}, fmt.Errorf("constraint %q: key '%s' is invalid: want a letter or _ and then letters, digits, '-', '_' and '.'", expression, key)
		}
		if !valuePattern.MatchString(value) {
			return Constraint{}, fmt.Errorf("constraint %q: value '%s' is invalid", expression, value)
		}
		return Constraint{key: key, value: value, negated: operator == "!="}, nil
	}
	return Constraint{}, fmt.Errorf("constraint expected one operator from ==, !=: got %q", expression)
}

// String is the constraint in its plain form.
func (c Constraint) String() string {
	if c.negated {
		return c.key + " != " + c.value
	}
	return c.key + " == " + c.value
}

// MatchAll reports whether a node meets all constraints.
func MatchAll(constraints []Constraint, f Facts) bool {
	for _, c := range constraints {
		if !c.Match(f) {
			return false
		}
	}
	return true
}

// Match reports whether a node meets the constraint. Values compare without
// regard to case; keys of labels do not. A label that the node lacks is the
// empty string, and a key that nobody knows is met by no node.
func (c Constraint) Match(f Facts) bool {
	if label, ok := cutPrefixFold(c.key, "node.labels."); ok {
		return c.compare(f.NodeLabels[label])
	}
	if label, ok := cutPrefixFold(c.key, "engine.labels."); ok {
		return c.compare(f.EngineLabels[label])
	}
	switch strings.ToLower(c.key) {
	case "node.id":
		return c.compare(f.ID)
	case "node.hostname":
		return c.compare(f.Hostname)
	case "node.ip":
		return c.compareIP(f.IP)
	case "node.role":
		return c.compare(f.Role)
	case "node.platform.os":
		return c.compare(f.OS)
	case "node.platform.arch":
		return c.compare(f.Arch)
	}
	return false
}

func (c Constraint) compare(have string) bool {
	return strings.EqualFold(have, c.value) != c.negated
}

// compareIP takes an address, or a network that the node's address is in.
func (c Constraint) compareIP(have string) bool {
	ip, err := netip.ParseAddr(have)
	if err != nil {
		return false
	}
	if network, err := netip.ParsePrefix(c.value); err == nil {
		return network.Contains(ip) != c.negated
	}
	want, err := netip.ParseAddr(c.value)
	return err == nil && (want == ip) != c.negated
}

// NodeLabel returns the label of a node that the constraint asks about, and the
// value that it must have, or must not have if negated.
func (c Constraint) NodeLabel() (key, value string, negated, ok bool) {
	key, ok = cutPrefixFold(c.key, "node.labels.")
	return key, c.value, c.negated, ok
}

// cutPrefixFold returns s without a prefix that it has in whatever case.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) <= len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

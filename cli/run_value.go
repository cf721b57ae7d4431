package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"

	"shoal/internal/runspec"
)

// mode is one of a few words; "" goes back to the engine's default.
type mode[T ~string] struct {
	p     *T
	words []string
}

// Set implements value.
func (m *mode[T]) Set(s string) error {
	if s != "" && !slices.Contains(m.words, s) {
		return fmt.Errorf("must be one of %s", quoteAll(m.words))
	}
	*m.p = T(s)
	return nil
}

func (m *mode[T]) String() string {
	if m.p == nil {
		return ""
	}
	return string(*m.p)
}

// size is a number of bytes; -1 has a meaning of its own where least allows it.
type size struct {
	p     *int64
	least int64
}

// Set implements value.
func (b *size) Set(s string) error {
	if s == "-1" && b.least == -1 {
		*b.p = -1
		return nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return errors.New(`must be a size such as "512m" or "2g"`)
	}
	*b.p = n
	return nil
}

func (b *size) String() string {
	if b.p == nil || *b.p == 0 {
		return ""
	}
	return units.BytesSize(float64(*b.p))
}

// swappiness is 0 to 100; -1 leaves it to the node.
type swappiness struct{ p **int64 }

// Set implements value.
func (w *swappiness) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < -1 || n > 100 {
		return errors.New("must be a whole number from 0 to 100, or -1")
	}
	*w.p = &n
	if n == -1 {
		*w.p = nil
	}
	return nil
}

func (w *swappiness) String() string {
	if w.p == nil || *w.p == nil {
		return ""
	}
	return strconv.FormatInt(**w.p, 10)
}

// gpus takes back all requests when it is "".
type gpus struct{ *opts.GpuOpts }

// Set implements value.
func (g *gpus) Set(s string) error {
	if s == "" {
		*g.GpuOpts = opts.GpuOpts{}
		return nil
	}
	return g.GpuOpts.Set(s)
}

// many is a list flag whose values are of type T.
type many[T any] struct {
	parse func(string) ([]T, error)
	key   func(T) string // an entry with the same one is replaced
	field func(*runspec.Spec) *[]T
	// merge is for lists that field cannot point at.
	merge func(r *runspec.Spec, add []T, rm []string)
}

// values are what one list flag was given.
type values[T any] struct {
	list  []T
	texts []string
	parse func(string) ([]T, error)
}

// Set implements value.
func (v *values[T]) Set(s string) error {
	more, err := v.parse(s)
	if err != nil {
		return err
	}
	v.list, v.texts = append(v.list, more...), append(v.texts, s)
	return nil
}

func (v *values[T]) String() string { return strings.Join(v.texts, ", ") }

// manifold adds a list flag: one in create, a pair in update.
func manifold[T any](s *serviceFlags, name, usage string, m many[T]) *flag {
	add, rm := &values[T]{parse: m.parse}, &values[string]{parse: one(validateKey)}
	f := s.listFlag(add, rm, "list", name, "", usage)
	set := setting{[]*flag{f}, func(r *runspec.Spec) {
		if m.merge != nil {
			m.merge(r, add.list, rm.list)
			return
		}
		field := m.field(r)
		*field = merged(*field, add.list, rm.list, m.key)
	}}
	if s.update {
		set.flags = append(set.flags, s.find(name+"-rm"))
	}
	s.run.settings = append(s.run.settings, set)
	return f
}

// merged removes by key, and adds in the place of what has the same key.
func merged[T any](list, add []T, rm []string, key func(T) string) []T {
	out := slices.DeleteFunc(slices.Clone(list), func(v T) bool { return slices.Contains(rm, key(v)) })
	for _, v := range add {
		i := slices.IndexFunc(out, func(o T) bool { return key(o) == key(v) })
		if i < 0 {
			out = append(out, v)
			continue
		}
		out[i] = v
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// runMap is a list flag of KEY and VALUE, with a separator between them.
func (s *serviceFlags) runMap(name, usage, separator string, field func(*runspec.Spec) *map[string]string) *flag {
	parse := func(text string) ([][2]string, error) {
		k, v, found := strings.Cut(text, separator)
		if k == "" || !found && separator == "=" {
			return nil, errors.New("no key, or no " + separator)
		}
		return [][2]string{{k, v}}, nil
	}
	return manifold(s, name, usage, many[[2]string]{parse: parse, merge: func(r *runspec.Spec, add [][2]string, rm []string) {
		m := maps.Clone(*field(r))
		for _, key := range rm {
			delete(m, key)
		}
		for _, kv := range add {
			if m == nil {
				m = map[string]string{}
			}
			m[kv[0]] = kv[1]
		}
		*field(r) = m
	}})
}

func one(valid opts.ValidatorFctType) func(string) ([]string, error) {
	return func(s string) ([]string, error) {
		v, err := valid(s)
		return []string{v}, err
	}
}

func each[T any](parse func(string) (*T, error)) func(string) ([]T, error) {
	return func(s string) ([]T, error) {
		v, err := parse(s)
		if err != nil {
			return nil, err
		}
		return []T{*v}, nil
	}
}

// parseExposed takes PORT[-PORT][/PROTOCOL].
func parseExposed(s string) (ports []string, err error) {
	numbers, protocol, found := strings.Cut(s, "/")
	if !found {
		protocol = "tcp"
	}
	from, to, found := strings.Cut(numbers, "-")
	if !found {
		to = from
	}
	first, errFirst := strconv.ParseUint(from, 10, 16)
	last, errLast := strconv.ParseUint(to, 10, 16)
	if errors.Join(errFirst, errLast) != nil || first == 0 || last < first || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return nil, errors.New("not a port, or a range of ports")
	}
	for port := first; port <= last; port++ {
		ports = append(ports, fmt.Sprintf("%d/%s", port, protocol))
	}
	return ports, nil
}

// parseSecurityOpt puts the content of a seccomp profile in the place of its
// file's name, as docker run does.
func parseSecurityOpt(s string) ([]string, error) {
	k, v, found := strings.Cut(s, "=")
	if !found && k != "no-new-privileges" {
		k, v, found = strings.Cut(s, ":")
	}
	switch {
	case (!found || v == "") && k != "no-new-privileges":
		return nil, fmt.Errorf("%q is no KEY=VALUE", s)
	case k != "seccomp" || v == "builtin" || v == "unconfined":
		return []string{s}, nil
	}
	profile, err := os.ReadFile(v)
	if err != nil {
		return nil, fmt.Errorf("opening seccomp profile (%s) failed: %w", v, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, profile); err != nil {
		return nil, fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", v, err)
	}
	return []string{"seccomp=" + compact.String()}, nil
}

// securityKey: several labels may stand beside each other, and there is one of
// each other option.
func securityKey(opt string) string {
	k, _, found := strings.Cut(opt, "=")
	if !found {
		k, _, _ = strings.Cut(opt, ":")
	}
	if k == "label" {
		return opt
	}
	return k
}

func parseCgroupRule(s string) ([]string, error) {
	if !regexp.MustCompile(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`).MatchString(s) {
		return nil, fmt.Errorf("invalid device cgroup format '%s'", s)
	}
	return []string{s}, nil
}

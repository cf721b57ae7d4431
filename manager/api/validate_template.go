package api

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

const (
	// maxTemplate bounds how many steps a template can have.
	maxTemplate = 16 << 10
	// maxExpanded bounds what a template, and each step of it, may grow to.
	maxExpanded = 64 << 10
)

// templateScope is what templates see on a node, with made-up values.
type templateScope struct {
	Service struct {
		ID, Name string
		Labels   map[string]string
	}
	Node struct {
		ID, Hostname string
		Platform     swarm.Platform
	}
	Task struct{ ID, Name, Slot string }
}

func dummyScope(spec *swarm.ServiceSpec) templateScope {
	var s templateScope
	s.Service.ID, s.Service.Name, s.Service.Labels = "serviceid", spec.Name, spec.Labels
	s.Node.ID, s.Node.Hostname = "nodeid", "nodename"
	s.Node.Platform = swarm.Platform{Architecture: "x86_64", OS: "linux"}
	s.Task.ID, s.Task.Name, s.Task.Slot = "taskid", spec.Name+".1.taskid", "1"
	return s
}

func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// validateTemplates expands every field that may hold a template.
func validateTemplates(spec *swarm.ServiceSpec) error {
	c, scope := spec.TaskTemplate.ContainerSpec, dummyScope(spec)
	hostname, err := scope.expand(c.Hostname)
	if err != nil {
		return rpcInvalid("expanding hostname failed: %v", err)
	}
	if !isHostname(hostname) {
		return rpcInvalid("ContainerSpec: invalid Hostname %q: at most 64 letters, digits, '-', '_' and '.' are allowed", hostname)
	}
	for _, kv := range c.Env {
		if _, err := scope.expand(kv); err != nil {
			return rpcInvalid("expanding env failed: %v", err)
		}
	}
	for _, m := range c.Mounts {
		if err := scope.expandMount(m); err != nil {
			return rpcInvalid("expanding mounts failed: %v", err)
		}
	}
	return nil
}

// isHostname: the kernel takes 64 bytes.
func isHostname(s string) bool {
	return len(s) <= 64 && every(s, func(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' || c == '.' })
}

func (s templateScope) expandMount(m mount.Mount) error {
	texts := []string{m.Source, m.Target}
	if o := m.VolumeOptions; o != nil {
		for _, v := range o.Labels {
			texts = append(texts, v)
		}
		if o.DriverConfig != nil {
			for _, v := range o.DriverConfig.Options {
				texts = append(texts, v)
			}
		}
	}
	for _, t := range texts {
		if _, err := s.expand(t); err != nil {
			return err
		}
	}
	return nil
}

func (s templateScope) expand(text string) (string, error) {
	if !isTemplate(text) {
		return text, nil
	}
	if len(text) > maxTemplate {
		return "", fmt.Errorf("the template is longer than %d bytes", maxTemplate)
	}
	t, err := template.New("expansion").Option("missingkey=error").Funcs(boundedFuncs()).Parse(text)
	if err != nil {
		return "", err
	}
	if err := checkTemplate(t); err != nil {
		return "", err
	}
	var out limited
	if err := t.Execute(&out, s); err != nil {
		return "", err
	}
	return out.String(), nil
}

// boundedFuncs are join, and those of text/template that make text, each with
// a limit: chained, they could double it at every step.
func boundedFuncs() template.FuncMap {
	bounded := func(f func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) {
			if err := boundArgs(args); err != nil {
				return "", err
			}
			return bound(f(args...))
		}
	}
	return template.FuncMap{
		"print": bounded(fmt.Sprint), "println": bounded(fmt.Sprintln), "html": bounded(template.HTMLEscaper),
		"js": bounded(template.JSEscaper), "urlquery": bounded(template.URLQueryEscaper),
		"join": func(separator string, parts ...string) (string, error) { return bound(strings.Join(parts, separator)) },
		"printf": func(format string, args ...any) (string, error) {
			if hugeWidth(format) {
				return "", fmt.Errorf("width in format %q is not allowed", format)
			}
			if err := boundArgs(args); err != nil {
				return "", err
			}
			return bound(fmt.Sprintf(format, args...))
		},
	}
}

// boundArgs looks at what goes in, so that nothing huge is made to be refused.
func boundArgs(args []any) error {
	total := 0
	for _, a := range args {
		if s, ok := a.(string); ok {
			total += len(s)
		}
	}
	if total > maxExpanded {
		return errTooLong()
	}
	return nil
}

func errTooLong() error { return fmt.Errorf("the result is longer than %d bytes", maxExpanded) }

func bound(s string) (string, error) {
	if len(s) > maxExpanded {
		return "", errTooLong()
	}
	return s, nil
}

// hugeWidth finds a width that is computed, or has more than three digits.
func hugeWidth(format string) bool {
	digits := 0
	for _, c := range []byte(format) {
		if c == '*' {
			return true
		}
		if c < '0' || c > '9' {
			digits = -1
		}
		if digits++; digits > 3 {
			return true
		}
	}
	return false
}

// checkTemplate refuses templates that call templates and loops: with them, a
// short text can take for ever.
func checkTemplate(t *template.Template) error {
	if len(t.Templates()) > 1 {
		return errors.New("a template cannot define others")
	}
	if t.Tree == nil {
		return nil
	}
	return checkNode(t.Root)
}

func checkNode(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			if err := checkNode(child); err != nil {
				return err
			}
		}
	case *parse.TemplateNode, *parse.RangeNode:
		return fmt.Errorf("%s is not allowed", n)
	case *parse.IfNode:
		return errors.Join(checkNode(n.List), checkNode(n.ElseList))
	case *parse.WithNode:
		return errors.Join(checkNode(n.List), checkNode(n.ElseList))
	}
	return nil
}

// limited is a text that may not grow past maxExpanded.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxExpanded {
		return 0, errTooLong()
	}
	return l.Builder.Write(p)
}

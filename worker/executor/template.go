package executor

import (
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"shoal/worker/assignment"
)

// Node is what tasks may know of the node that they run on.
type Node struct {
	ID       string
	Hostname string
	Platform swarm.Platform
}

// scope is what the templates of a task see: Swarm's names.
type scope struct {
	Service struct {
		ID, Name string
		Labels   map[string]string
	}
	Node Node
	Task struct{ ID, Name, Slot string }
}

func scopeOf(t assignment.Task, n Node) scope {
	var s scope
	s.Service.ID, s.Service.Name, s.Service.Labels = t.ServiceID, t.ServiceName, t.Spec.ServiceLabels
	s.Node = n
	s.Task.ID, s.Task.Name, s.Task.Slot = t.ID, containerName(t, n.ID), slotName(t, n.ID)
	return s
}

// slotName is the task's slot, or the node for services that have no slots.
func slotName(t assignment.Task, nodeID string) string {
	if t.Slot == 0 {
		return nodeID
	}
	return strconv.Itoa(t.Slot)
}

func containerName(t assignment.Task, nodeID string) string {
	return t.ServiceName + "." + slotName(t, nodeID) + "." + t.ID
}

func (s scope) expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	tmpl, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"join": join}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("template %q: %w", text, err)
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, s); err != nil {
		return "", fmt.Errorf("template %q: %w", text, err)
	}
	return b.String(), nil
}

func join(sep string, parts ...string) string { return strings.Join(parts, sep) }

// expandSpec returns a copy of the container spec with its templates filled in:
// hostname, values of the environment, and of mounts the source, target,
// volume labels and driver options.
func (s scope) expandSpec(spec *swarm.ContainerSpec) (*swarm.ContainerSpec, error) {
	c := *spec
	e := expander{scope: s}
	c.Hostname = e.text("Hostname", spec.Hostname)
	c.Env = make([]string, len(spec.Env))
	for i, kv := range spec.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			kv = k + "=" + e.text("Env", v)
		}
		c.Env[i] = kv
	}
	c.Mounts = make([]mount.Mount, len(spec.Mounts))
	for i, m := range spec.Mounts {
		c.Mounts[i] = e.mount(m)
	}
	return &c, e.err
}

// expander keeps the first error, so that the fields read as one list.
type expander struct {
	scope
	err error
}

func (e *expander) text(field, text string) string {
	out, err := e.expand(text)
	if err != nil && e.err == nil {
		e.err = invalid("%s: %v", field, err)
	}
	return out
}

func (e *expander) mount(m mount.Mount) mount.Mount {
	m.Source = e.text("Mounts.Source", m.Source)
	m.Target = e.text("Mounts.Target", m.Target)
	if m.VolumeOptions == nil {
		return m
	}
	v := *m.VolumeOptions
	v.Labels = e.values("Mounts.VolumeOptions.Labels", v.Labels)
	if v.DriverConfig != nil {
		d := *v.DriverConfig
		d.Options = e.values("Mounts.VolumeOptions.DriverConfig.Options", d.Options)
		v.DriverConfig = &d
	}
	m.VolumeOptions = &v
	return m
}

func (e *expander) values(field string, in map[string]string) map[string]string {
	if in == nil {
		return nil
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[k] = e.text(field, v)
	}
	return out
}

package api

import (
	"cmp"
	"reflect"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// canonical gives equal specs one form: what JSON cannot tell apart (empty and
// absent lists and maps) is absent, and what has a default that Swarm shows is
// filled in. Empty structs stay where they were posted.
func canonical(spec *swarm.ServiceSpec) {
	dropEmpty(reflect.ValueOf(spec).Elem())
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	t := &spec.TaskTemplate
	if t.Runtime == "" {
		t.Runtime = swarm.RuntimeContainer
	}
	if c := t.ContainerSpec; c != nil && c.Isolation == "" {
		c.Isolation = container.IsolationDefault
	}
	if p := t.RestartPolicy; p != nil {
		p.Condition = cmp.Or(p.Condition, swarm.RestartPolicyConditionAny)
		if p.MaxAttempts == nil { // programs follow the pointer: Swarm never leaves it out
			p.MaxAttempts = new(uint64(0))
		}
	}
	canonicalMode(&spec.Mode)
	canonicalUpdate(spec.UpdateConfig)
	canonicalUpdate(spec.RollbackConfig)
	canonicalEndpoint(spec.EndpointSpec)
	// Clients of the time before 1.25 name networks here.
	if len(t.Networks) == 0 {
		t.Networks = spec.Networks //nolint:staticcheck // deprecated, and honoured
	}
	spec.Networks = nil //nolint:staticcheck // deprecated, and honoured
}

func canonicalMode(m *swarm.ServiceMode) {
	if job := m.ReplicatedJob; job != nil {
		if job.MaxConcurrent == nil {
			job.MaxConcurrent = new(uint64(1))
		}
		if job.TotalCompletions == nil {
			job.TotalCompletions = new(*job.MaxConcurrent)
		}
	}
	if m.Global != nil || m.GlobalJob != nil || m.ReplicatedJob != nil {
		return
	}
	if m.Replicated == nil {
		m.Replicated = &swarm.ReplicatedService{}
	}
	if m.Replicated.Replicas == nil {
		m.Replicated.Replicas = new(uint64(1))
	}
}

func canonicalUpdate(u *swarm.UpdateConfig) {
	if u == nil {
		return
	}
	if u.FailureAction == "" {
		u.FailureAction = swarm.UpdateFailureActionPause
	}
	if u.Order == "" {
		u.Order = swarm.UpdateOrderStopFirst
	}
}

func canonicalEndpoint(e *swarm.EndpointSpec) {
	if e == nil {
		return
	}
	if e.Mode == "" {
		e.Mode = swarm.ResolutionModeVIP
	}
	for i := range e.Ports {
		p := &e.Ports[i]
		if p.Protocol == "" {
			p.Protocol = swarm.PortConfigProtocolTCP
		}
		if p.PublishMode == "" {
			p.PublishMode = swarm.PortConfigPublishModeIngress
		}
	}
}

// dropEmpty sets every empty list and map inside v to nil.
func dropEmpty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dropEmpty(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				dropEmpty(field)
			}
		}
	case reflect.Map:
		if v.Len() == 0 {
			v.SetZero()
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			dropEmpty(v.Index(i))
		}
	default: // a plain value
	}
}

// insertDefaults returns the spec with what applies where it says nothing.
// The spec handed in is not touched.
func insertDefaults(spec swarm.ServiceSpec) swarm.ServiceSpec {
	t := &spec.TaskTemplate
	if t.ContainerSpec != nil {
		c := *t.ContainerSpec
		if c.StopGracePeriod == nil {
			c.StopGracePeriod = new(10 * time.Second)
		}
		if c.DNSConfig == nil {
			c.DNSConfig = &swarm.DNSConfig{}
		}
		t.ContainerSpec = &c
	}
	if t.Resources == nil {
		t.Resources = &swarm.ResourceRequirements{}
	}
	if t.Placement == nil {
		t.Placement = &swarm.Placement{}
	}
	t.RestartPolicy = defaultRestart(t.RestartPolicy)
	spec.UpdateConfig = defaultUpdate(spec.UpdateConfig)
	spec.RollbackConfig = defaultUpdate(spec.RollbackConfig)
	return spec
}

func defaultRestart(given *swarm.RestartPolicy) *swarm.RestartPolicy {
	p := swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny}
	if given != nil {
		p = *given
	}
	if p.Delay == nil {
		p.Delay = new(5 * time.Second)
	}
	if p.MaxAttempts == nil {
		p.MaxAttempts = new(uint64(0))
	}
	return &p
}

func defaultUpdate(given *swarm.UpdateConfig) *swarm.UpdateConfig {
	u := swarm.UpdateConfig{
		Parallelism: 1, FailureAction: swarm.UpdateFailureActionPause, Order: swarm.UpdateOrderStopFirst,
	}
	if given != nil {
		u = *given
	}
	if u.Monitor == 0 {
		u.Monitor = 5 * time.Second
	}
	return &u
}

// isJob reports whether tasks of the mode run to their end.
func isJob(m swarm.ServiceMode) bool { return m.ReplicatedJob != nil || m.GlobalJob != nil }

// modeName is how filters and messages name a service's mode.
func modeName(m swarm.ServiceMode) string {
	switch {
	case m.Global != nil:
		return "global"
	case m.ReplicatedJob != nil:
		return "replicated-job"
	case m.GlobalJob != nil:
		return "global-job"
	}
	return "replicated"
}

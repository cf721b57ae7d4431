package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// newSpec is what Docker's client posts when no flag is given.
func newSpec() swarm.ServiceSpec {
	noInit := false
	return swarm.ServiceSpec{
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Init: &noInit, DNSConfig: &swarm.DNSConfig{}},
			Resources:     &swarm.ResourceRequirements{Limits: &swarm.Limit{}, Reservations: &swarm.Resources{}},
			Placement:     &swarm.Placement{},
		},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP},
	}
}

// apply changes in spec what flags were given for. It asks nobody; what has to
// be looked up (networks, secrets, configs) is done by lookUp.
func (s *serviceFlags) apply(spec *swarm.ServiceSpec) error {
	if spec.TaskTemplate.ContainerSpec == nil {
		return errors.New("the service does not run containers")
	}
	s.applyContainer(spec.TaskTemplate.ContainerSpec)
	s.applyResources(&spec.TaskTemplate)
	s.applyRestart(&spec.TaskTemplate)
	s.applyPlacement(&spec.TaskTemplate)
	s.updates.apply(s.flags, "update", &spec.UpdateConfig)
	s.rollbacks.apply(s.flags, "rollback", &spec.RollbackConfig)
	s.applyLogDriver(&spec.TaskTemplate)
	if err := s.applyHealth(spec.TaskTemplate.ContainerSpec); err != nil {
		return err
	}
	if err := s.applyGeneric(&spec.TaskTemplate); err != nil {
		return err
	}
	return s.applyLists(spec)
}

func set[T any](s *serviceFlags, name string, field *T, v T) {
	if s.changed(name) {
		*field = v
	}
}

func (s *serviceFlags) applyContainer(c *swarm.ContainerSpec) {
	set(s, "workdir", &c.Dir, s.workdir)
	set(s, "user", &c.User, s.user)
	set(s, "hostname", &c.Hostname, s.hostname)
	set(s, "entrypoint", &c.Command, []string(s.entrypoint))
	set(s, "init", &c.Init, &s.init)
	set(s, "tty", &c.TTY, s.tty)
	set(s, "interactive", &c.OpenStdin, s.interactive)
	set(s, "read-only", &c.ReadOnly, s.readOnly)
	set(s, "stop-signal", &c.StopSignal, s.stopSignal)
	set(s, "stop-grace-period", &c.StopGracePeriod, &s.stopGrace)
	set(s, "isolation", &c.Isolation, container.Isolation(s.isolation))
	set(s, "oom-score-adj", &c.OomScoreAdj, s.oomScoreAdj)
	if s.changed("cap-add", "cap-drop") {
		c.CapabilityAdd, c.CapabilityDrop = mergeCapabilities(s.update, c.CapabilityAdd, c.CapabilityDrop, s.capAdd, s.capDrop)
	}
}

func (s *serviceFlags) applyResources(t *swarm.TaskSpec) {
	if s.changed("limit-cpu", "limit-memory", "limit-pids", "reserve-cpu", "reserve-memory") {
		r := resources(t)
		set(s, "limit-cpu", &r.Limits.NanoCPUs, s.limitCPU.Value())
		set(s, "limit-memory", &r.Limits.MemoryBytes, s.limitMemory.Value())
		set(s, "limit-pids", &r.Limits.Pids, s.limitPids)
		set(s, "reserve-cpu", &r.Reservations.NanoCPUs, s.reserveCPU.Value())
		set(s, "reserve-memory", &r.Reservations.MemoryBytes, s.reserveMemory.Value())
	}
}

func resources(t *swarm.TaskSpec) *swarm.ResourceRequirements {
	if t.Resources == nil {
		t.Resources = &swarm.ResourceRequirements{}
	}
	if t.Resources.Limits == nil {
		t.Resources.Limits = &swarm.Limit{}
	}
	if t.Resources.Reservations == nil {
		t.Resources.Reservations = &swarm.Resources{}
	}
	return t.Resources
}

func (s *serviceFlags) applyRestart(t *swarm.TaskSpec) {
	if !s.changed("restart-condition", "restart-delay", "restart-max-attempts", "restart-window") {
		return
	}
	if t.RestartPolicy == nil {
		delay, attempts := 5*time.Second, uint64(0) // Swarm's defaults
		t.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny, Delay: &delay, MaxAttempts: &attempts}
	}
	attempts := uint64(s.restartAttempts)
	set(s, "restart-condition", &t.RestartPolicy.Condition, swarm.RestartPolicyCondition(s.restartCondition))
	set(s, "restart-delay", &t.RestartPolicy.Delay, &s.restartDelay)
	set(s, "restart-max-attempts", &t.RestartPolicy.MaxAttempts, &attempts)
	set(s, "restart-window", &t.RestartPolicy.Window, &s.restartWindow)
}

func (s *serviceFlags) applyPlacement(t *swarm.TaskSpec) {
	if !s.changed("replicas-max-per-node", "constraint", "constraint-add", "constraint-rm", "placement-pref", "placement-pref-add", "placement-pref-rm") {
		return
	}
	if t.Placement == nil {
		t.Placement = &swarm.Placement{}
	}
	p := t.Placement
	set(s, "replicas-max-per-node", &p.MaxReplicas, uint64(s.maxPerNode))
	p.Constraints = s.constraints.merge(p.Constraints, whole, s.update)
	var kept []swarm.PlacementPreference
	for _, pref := range p.Preferences {
		if !s.prefsRemoved.has(pref) {
			kept = append(kept, pref)
		}
	}
	p.Preferences = append(kept, s.prefs...)
}

func (p placementPrefs) has(pref swarm.PlacementPreference) bool {
	for _, q := range p {
		if pref.Spread != nil && pref.Spread.SpreadDescriptor == q.Spread.SpreadDescriptor {
			return true
		}
	}
	return false
}

// apply changes an update or rollback configuration, made with Swarm's
// defaults when the service has none.
func (c *changeFlags) apply(f *flags, kind string, config **swarm.UpdateConfig) {
	if !f.changed(kind+"-parallelism", kind+"-delay", kind+"-monitor", kind+"-failure-action", kind+"-max-failure-ratio", kind+"-order") {
		return
	}
	if *config == nil {
		*config = &swarm.UpdateConfig{Parallelism: 1, Monitor: 5 * time.Second, FailureAction: "pause", Order: "stop-first"}
	}
	u := **config
	if f.changed(kind + "-parallelism") {
		u.Parallelism = uint64(c.parallelism)
	}
	if f.changed(kind + "-delay") {
		u.Delay = c.delay
	}
	if f.changed(kind + "-monitor") {
		u.Monitor = c.monitor
	}
	if f.changed(kind + "-failure-action") {
		u.FailureAction = c.failureAction
	}
	if f.changed(kind + "-max-failure-ratio") {
		u.MaxFailureRatio = float32(c.maxFailureRatio)
	}
	if f.changed(kind + "-order") {
		u.Order = c.order
	}
	*config = &u
}

func (s *serviceFlags) applyLogDriver(t *swarm.TaskSpec) {
	if s.changed("log-driver") && s.logDriver != "" {
		t.LogDriver = &swarm.Driver{Name: s.logDriver, Options: opts.ConvertKVStringsToMap(s.logOpts)}
	}
}

func (s *serviceFlags) applyHealth(c *swarm.ContainerSpec) error {
	settings := []string{"health-cmd", "health-interval", "health-timeout", "health-retries", "health-start-period", "health-start-interval"}
	if s.changed("no-healthcheck") && s.health.none {
		if s.changed(settings...) {
			return errors.New("--no-healthcheck conflicts with --health-* options")
		}
		c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		return nil
	}
	if !s.changed(settings...) {
		return nil
	}
	h := container.HealthConfig{}
	if c.Healthcheck != nil {
		h = *c.Healthcheck
	}
	if len(h.Test) > 0 && h.Test[0] == "NONE" {
		h.Test = nil
	}
	if s.changed("health-cmd") {
		h.Test = nil
		if s.health.cmd != "" {
			h.Test = []string{"CMD-SHELL", s.health.cmd}
		}
	}
	set(s, "health-interval", &h.Interval, s.health.interval)
	set(s, "health-timeout", &h.Timeout, s.health.timeout)
	set(s, "health-retries", &h.Retries, int(s.health.retries))
	set(s, "health-start-period", &h.StartPeriod, s.health.startPeriod)
	set(s, "health-start-interval", &h.StartInterval, s.health.startInterval)
	c.Healthcheck = &h
	return nil
}

// mode is the service mode of a new service.
func (s *serviceFlags) mode(mode string) (swarm.ServiceMode, error) {
	var replicas, concurrent *uint64
	if s.changed("replicas") {
		n := uint64(s.replicas)
		replicas = &n
	}
	if s.changed("max-concurrent") {
		n := uint64(s.maxConcurrent)
		concurrent = &n
	}
	job := mode == "replicated-job" || mode == "global-job"
	switch {
	case replicas != nil && (mode == "global" || mode == "global-job"):
		return swarm.ServiceMode{}, errors.New("replicas can only be used with replicated or replicated-job mode")
	case s.maxPerNode > 0 && (mode == "global" || mode == "global-job"):
		return swarm.ServiceMode{}, errors.New("replicas-max-per-node can only be used with replicated or replicated-job mode")
	case concurrent != nil && mode != "replicated-job":
		return swarm.ServiceMode{}, errors.New("max-concurrent can only be used with replicated-job mode")
	case job && s.changesRollout():
		return swarm.ServiceMode{}, errors.New("update and rollback configuration is not supported for jobs")
	}
	switch mode {
	case "global":
		return swarm.ServiceMode{Global: &swarm.GlobalService{}}, nil
	case "global-job":
		return swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}, nil
	case "replicated-job":
		if concurrent == nil {
			concurrent = replicas
		}
		return swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: concurrent, TotalCompletions: replicas}}, nil
	case "replicated":
		return swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: replicas}}, nil
	}
	return swarm.ServiceMode{}, fmt.Errorf("unknown mode: %s", mode)
}

func (s *serviceFlags) changesRollout() bool {
	for _, kind := range []string{"update", "rollback"} {
		if s.changed(kind+"-parallelism", kind+"-delay", kind+"-monitor", kind+"-failure-action", kind+"-max-failure-ratio", kind+"-order") {
			return true
		}
	}
	return false
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// updateFlags are what only service update has.
type updateFlags struct {
	*serviceFlags
	image           string
	args            words
	force, rollback bool
}

func (s *shell) serviceUpdate() *command {
	u := &updateFlags{serviceFlags: newServiceFlags(true)}
	u.text(&u.image, "image", "Service image tag")
	u.add(&u.args, "command", "args", "Service command args")
	u.toggle(&u.force, "force", "Replace the tasks even if no change requires it")
	u.toggle(&u.rollback, "rollback", "Roll back to the previous specification")
	return &command{
		name: "update", operands: "[OPTIONS] SERVICE", short: "Update a service",
		long:  "Waits until the service has converged, unless --detach is given.\n\nExit codes: 0 converged, 1 refused, paused, rolled back or failed, 124 --wait-timeout passed, 125 bad flag, 130 interrupted while waiting (the update goes on).",
		flags: u.flags, min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error { return s.runServiceUpdate(ctx, u, args[0]) },
	}
}

// check refuses what is wrong whatever the service is.
func (u *updateFlags) check() error {
	if u.rollback {
		alone := []string{"rollback", "detach", "quiet", "wait-timeout"}
		for _, name := range u.given() {
			if !slices.Contains(alone, name) {
				return fmt.Errorf("other flags may not be combined with --rollback (--%s was given)", name)
			}
		}
	}
	if u.changed("image") {
		if err := checkImage(u.image); err != nil {
			return fmt.Errorf("--image: %w", err)
		}
	}
	// What apply refuses for any service, it refuses for an empty one.
	empty := newSpec()
	probe := *u.serviceFlags
	probe.generic.rm = nil
	return probe.apply(&empty)
}

func (s *shell) runServiceUpdate(ctx context.Context, u *updateFlags, ref string) error {
	if err := u.check(); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	var warnings []string
	err = reread(func() error {
		warnings, err = s.updateService(ctx, api, u, ref)
		return err
	})
	if err != nil {
		return err
	}
	s.warn(warnings)
	fmt.Fprintln(s.out, ref)
	if u.wait.detach || u.onlyRebalance() {
		return nil
	}
	u.wait.rollback = u.rollback
	return s.wait(ctx, api, u.wait, ref)
}

// onlyRebalance reports whether there is nothing to wait for: the setting begins
// no update, and what has become of the last one says nothing about it.
func (u *updateFlags) onlyRebalance() bool {
	changes := u.changed("rebalance")
	for _, name := range u.given() {
		changes = changes && slices.Contains([]string{"rebalance", "quiet", "wait-timeout"}, name)
	}
	return changes
}

func (s *shell) updateService(ctx context.Context, api *client.Client, u *updateFlags, ref string) (warnings []string, err error) {
	service, raw, err := api.ServiceInspectWithRaw(ctx, ref, swarm.ServiceInspectOptions{})
	if err != nil {
		return nil, err
	}
	spec := service.Spec
	o := swarm.ServiceUpdateOptions{RegistryAuthFrom: swarm.RegistryAuthFromSpec}
	var warning string
	if u.rollback {
		o.Rollback = "previous"
	} else if warning, err = s.change(ctx, api, u, &spec, &o); err != nil {
		return nil, err
	}
	if u.runChanged() || u.changed("rebalance") {
		return s.updateWithRun(ctx, u, service, raw, spec, o, warning)
	}
	updated, err := api.ServiceUpdate(ctx, service.ID, service.Version, spec, o)
	return append(updated.Warnings, warning), err
}

// updateWithRun is the end of an update that changes what Docker's client cannot
// send. Where it is not sent, the daemon keeps it.
func (s *shell) updateWithRun(ctx context.Context, u *updateFlags, service swarm.Service, raw []byte, spec swarm.ServiceSpec, o swarm.ServiceUpdateOptions, warning string) ([]string, error) {
	extended := extendedSpec{ServiceSpec: spec, Rebalance: rebalanceSetting(u.flags, u.rebalance)}
	if u.runChanged() {
		old, err := runOf(raw)
		if err != nil {
			return nil, err
		}
		if extended.Run, err = u.applyRun(old); err != nil {
			return nil, err
		}
	}
	updated, err := s.updateRun(ctx, service, extended, o)
	return append(updated.Warnings, warning), err
}

// change applies the flags to the spec of a service.
func (s *shell) change(ctx context.Context, api *client.Client, u *updateFlags, spec *swarm.ServiceSpec, o *swarm.ServiceUpdateOptions) (warning string, err error) {
	job := spec.Mode.ReplicatedJob != nil || spec.Mode.GlobalJob != nil
	if job && u.changesRollout() {
		return "", errors.New("update and rollback configuration is not supported for jobs")
	}
	if err := u.changeMode(&spec.Mode); err != nil {
		return "", err
	}
	if err := u.apply(spec); err != nil {
		return "", err
	}
	c := spec.TaskTemplate.ContainerSpec
	set(u.serviceFlags, "image", &c.Image, u.image)
	set(u.serviceFlags, "args", &c.Args, []string(u.args))
	if u.force {
		spec.TaskTemplate.ForceUpdate++
	}
	if err := u.lookUp(ctx, api, spec); err != nil {
		return "", err
	}
	if u.registryAuth {
		if o.EncodedRegistryAuth, err = s.registryAuth(c.Image); err != nil {
			return "", err
		}
		o.RegistryAuthFrom = ""
	}
	if u.changed("image") && !u.noResolveImage {
		warning = pinImage(ctx, api, &spec.TaskTemplate, o.EncodedRegistryAuth)
	}
	return warning, nil
}

func (u *updateFlags) changeMode(m *swarm.ServiceMode) error {
	replicas, concurrent := uint64(u.replicas), uint64(u.maxConcurrent)
	if u.changed("replicas") {
		switch {
		case m.Replicated != nil:
			m.Replicated = &swarm.ReplicatedService{Replicas: &replicas}
		case m.ReplicatedJob != nil:
			job := *m.ReplicatedJob
			job.TotalCompletions = &replicas
			m.ReplicatedJob = &job
		default:
			return errors.New("replicas can only be used with replicated or replicated-job mode")
		}
	}
	if u.changed("max-concurrent") {
		if m.ReplicatedJob == nil {
			return errors.New("max-concurrent can only be used with replicated-job mode")
		}
		job := *m.ReplicatedJob
		job.MaxConcurrent = &concurrent
		m.ReplicatedJob = &job
	}
	if u.maxPerNode > 0 && m.Replicated == nil && m.ReplicatedJob == nil {
		return errors.New("replicas-max-per-node can only be used with replicated or replicated-job mode")
	}
	return nil
}

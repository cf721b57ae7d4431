package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/swarm"
)

func (s *shell) serviceCommand() *command {
	return &command{
		name: "service", short: "Manage services",
		commands: []*command{
			s.serviceCreate(), s.serviceInspect(), s.serviceList(), s.serviceLogs(), s.servicePs(),
			s.serviceRemove(), s.serviceScale(), s.serviceUpdate(), s.serviceRollback(),
			s.serviceHistory(), s.serviceDiff(), s.servicePause(), s.serviceResume(), s.serviceAbort(),
		},
	}
}

func (s *shell) serviceCreate() *command {
	var (
		f        = newServiceFlags(false)
		name     string
		mode     = "replicated"
		envFiles []string
	)
	f.add(opts.NewListOptsRef(&f.groups.add, validateKey), "list", "group-add", "As --group") // docker run's name
	f.text(&name, "name", "Service name").def("made up by the server")
	f.choice(&mode, "mode", "Service mode", "replicated", "global", "replicated-job", "global-job").def(`"replicated"`)
	f.add(opts.NewListOptsRef(&envFiles, validateKey), "list", "env-file", "Read in a file of environment variables")
	return &command{
		name: "create", operands: "[OPTIONS] IMAGE [COMMAND] [ARG...]", short: "Create a new service",
		long:  "Waits until the service has converged, unless --detach is given. Flags end at IMAGE: what follows is the command.\n\nExit codes: 0 converged, 1 refused or not converging, 124 --wait-timeout passed, 125 bad flag, 130 interrupted while waiting (the service stays).",
		flags: f.flags, min: 1, max: -1, stopAtOperand: true,
		run: func(ctx context.Context, args []string) error {
			return s.runServiceCreate(ctx, f, name, mode, envFiles, args)
		},
	}
}

func (s *shell) runServiceCreate(ctx context.Context, f *serviceFlags, name, mode string, envFiles, args []string) error {
	spec, err := f.newSpec(name, mode, envFiles, args)
	if err != nil {
		return err
	}
	s.hint(f.flags, args[1:])
	var o swarm.ServiceCreateOptions
	if f.registryAuth {
		if o.EncodedRegistryAuth, err = s.registryAuth(args[0]); err != nil {
			return err
		}
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := f.lookUp(ctx, api, &spec); err != nil {
		return err
	}
	var warning string
	if !f.noResolveImage {
		warning = pinImage(ctx, api, &spec.TaskTemplate, o.EncodedRegistryAuth)
	}
	run, err := f.applyRun(nil)
	if err != nil {
		return err
	}
	var created swarm.ServiceCreateResponse
	extended := extendedSpec{ServiceSpec: spec, Rebalance: rebalanceSetting(f.flags, f.rebalance)}
	if !nothing(run) {
		extended.Run = run
	}
	if extended.Run == nil && extended.Rebalance == nil {
		created, err = api.ServiceCreate(ctx, spec, o)
	} else {
		created, err = s.createRun(ctx, extended, o.EncodedRegistryAuth)
	}
	if err != nil {
		return err
	}
	s.warn(append(created.Warnings, warning))
	fmt.Fprintln(s.out, created.ID)
	if f.wait.detach {
		return nil
	}
	ref := created.ID
	if name != "" {
		ref = name // what the user knows it by
	}
	return s.wait(ctx, api, f.wait, ref)
}

// newSpec makes the spec of a new service, refusing what cannot be right.
func (f *serviceFlags) newSpec(name, mode string, envFiles, args []string) (swarm.ServiceSpec, error) {
	spec := newSpec()
	if f.changed("name") {
		if err := checkName(name); err != nil {
			return spec, err
		}
	}
	if err := checkImage(args[0]); err != nil {
		return spec, err
	}
	m, err := f.mode(mode)
	if err != nil {
		return spec, err
	}
	env, err := opts.ReadKVEnvStrings(envFiles, f.env.add)
	if err != nil {
		return spec, fmt.Errorf("--env-file: %w", err)
	}
	f.env.add = env
	spec.Name, spec.Mode = name, m
	spec.TaskTemplate.ContainerSpec.Image = args[0]
	if len(args) > 1 {
		spec.TaskTemplate.ContainerSpec.Args = args[1:]
	}
	return spec, f.apply(&spec)
}

func checkName(name string) error {
	const longest = 63 // a DNS label
	if !regexp.MustCompile(`^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`).MatchString(name) {
		return badFlag("name", name, "must be letters and digits, with dashes and underscores between them")
	}
	if len(name) > longest {
		return badFlag("name", name, "must be at most %d characters long", longest)
	}
	return nil
}

// hint warns about what looks like a flag of ours after the image.
func (s *shell) hint(f *flags, args []string) {
	for _, arg := range args {
		if arg == "--" {
			return
		}
		if len(arg) > 2 && arg[:2] == "--" && f.find(keyOf(arg[2:])) != nil {
			fmt.Fprintf(s.err, "WARNING: %s stands after the image, so it is an argument of the container's command; flags of shoal go before the image\n", arg)
			return
		}
	}
}

func (s *shell) warn(warnings []string) {
	for _, w := range warnings {
		if w != "" {
			fmt.Fprintln(s.err, w)
		}
	}
}

func (s *shell) serviceRemove() *command {
	return &command{
		name: "rm", aliases: []string{"remove"}, operands: "SERVICE [SERVICE...]", short: "Remove one or more services",
		min: 1, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			var errs []error
			for _, arg := range args {
				if err := api.ServiceRemove(ctx, arg); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(s.out, arg)
			}
			return errors.Join(errs...)
		},
	}
}

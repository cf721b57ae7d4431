package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

type scaling struct {
	service  string
	replicas uint64
}

func (s *shell) serviceScale() *command {
	var (
		w waitFlags
		f = &flags{}
	)
	w.add(f)
	return &command{
		name: "scale", operands: "[OPTIONS] SERVICE=REPLICAS [SERVICE=REPLICAS...]", short: "Scale one or multiple replicated services",
		long:  "Waits until each service has converged, unless --detach is given.",
		flags: f, min: 1, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error { return s.runServiceScale(ctx, w, args) },
	}
}

// parseScales refuses all before any is sent.
func parseScales(args []string) ([]scaling, error) {
	var out []scaling
	seen := map[string]bool{}
	for _, arg := range args {
		name, number, ok := strings.Cut(arg, "=")
		if !ok || name == "" || number == "" {
			return nil, fmt.Errorf("invalid scale specifier '%s': must be SERVICE=REPLICAS", arg)
		}
		var n count
		if err := n.Set(number); err != nil {
			return nil, fmt.Errorf("%s: invalid replicas value %s: %w", name, number, err)
		}
		if seen[name] {
			return nil, fmt.Errorf("%s: given twice", name)
		}
		seen[name] = true
		out = append(out, scaling{name, uint64(n)})
	}
	return out, nil
}

func (s *shell) runServiceScale(ctx context.Context, w waitFlags, args []string) error {
	scales, err := parseScales(args)
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	var errs []error
	var waitFor []string
	for _, sc := range scales {
		var warnings []string
		err := reread(func() (err error) {
			warnings, err = scale(ctx, api, sc)
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sc.service, err))
			continue
		}
		s.warn(warnings)
		fmt.Fprintf(s.out, "%s scaled to %d\n", sc.service, sc.replicas)
		waitFor = append(waitFor, sc.service)
	}
	if !w.detach {
		for _, service := range waitFor {
			if err := s.wait(ctx, api, w, service); err != nil {
				var exit *exitError
				if errors.As(err, &exit) && exit.code != 1 { // a timeout or Ctrl-C is for all
					return &exitError{code: exit.code, err: errors.Join(append(errs, exit.err)...)}
				}
				errs = append(errs, fmt.Errorf("%s: %w", service, err))
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &exitError{code: 1, err: errors.Join(errs...)}
}

func scale(ctx context.Context, api *client.Client, sc scaling) ([]string, error) {
	service, _, err := api.ServiceInspectWithRaw(ctx, sc.service, swarm.ServiceInspectOptions{})
	if err != nil {
		return nil, err
	}
	mode := &service.Spec.Mode
	switch {
	case mode.Replicated != nil:
		mode.Replicated.Replicas = &sc.replicas
	case mode.ReplicatedJob != nil:
		mode.ReplicatedJob.TotalCompletions = &sc.replicas
	default:
		return nil, errors.New("scale can only be used with replicated or replicated-job mode")
	}
	updated, err := api.ServiceUpdate(ctx, service.ID, service.Version, service.Spec, swarm.ServiceUpdateOptions{})
	return updated.Warnings, err
}

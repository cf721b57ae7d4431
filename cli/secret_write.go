package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/swarm"
)

// maxValue is more than any secret or config may have: the managers refuse
// what is as long as that.
const maxValue = 1000<<10 + 1

// readValue reads a file, or standard input for "-".
func (s *shell) readValue(path string) (data []byte, err error) {
	from := s.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	if data, err = io.ReadAll(io.LimitReader(from, maxValue)); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s is empty: there must be something to store", path)
	}
	return data, nil
}

func (s *shell) valueCreate(k valueKind) *command {
	var (
		labels []string
		driver string
		f      = &flags{}
	)
	f.add(opts.NewListOptsRef(&labels, opts.ValidateLabel), "list", "label,l", "Labels").wants("KEY=VALUE")
	f.choice(&driver, "template-driver", "Expand the content for each task, as a template", "golang")
	return &command{
		name: "create", operands: "[OPTIONS] " + k.operand() + " FILE|-", short: "Create a " + string(k) + " from a file or standard input",
		flags: f, min: 2, max: 2,
		run: func(ctx context.Context, args []string) error {
			data, err := s.readValue(args[1])
			if err != nil {
				return err
			}
			api, err := s.connect()
			if err != nil {
				return err
			}
			spec := swarm.SecretSpec{Annotations: swarm.Annotations{Name: args[0], Labels: opts.ConvertKVStringsToMap(labels)}, Data: data}
			if driver != "" {
				spec.Templating = &swarm.Driver{Name: driver}
			}
			var id string
			if k == configKind {
				created, err := api.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: spec.Annotations, Data: spec.Data, Templating: spec.Templating})
				if err != nil {
					return err
				}
				id = created.ID
			} else {
				created, err := api.SecretCreate(ctx, spec)
				if err != nil {
					return err
				}
				id = created.ID
			}
			fmt.Fprintln(s.out, id)
			return nil
		},
	}
}

func (s *shell) valueSet(k valueKind) *command {
	var (
		w waitFlags
		f = &flags{}
	)
	w.add(f)
	return &command{
		name: "set", operands: "[OPTIONS] " + k.operand() + " FILE|-", short: "Make a new version of a " + string(k) + " and roll the services that use it",
		long: fmt.Sprintf("Services that refer to %s are updated to the new version, each under its own update policy; a rollback\n"+
			"of a service brings back the version that it had. Services that refer to one version, %s@N, and jobs stay as\n"+
			"they are. Waits until the services have converged, unless --detach is given.", k.operand(), k.operand()),
		flags: f, min: 2, max: 2, completes: string(k),
		run: func(ctx context.Context, args []string) error { return s.runValueSet(ctx, k, w, args[0], args[1]) },
	}
}

func (s *shell) runValueSet(ctx context.Context, k valueKind, w waitFlags, ref, path string) error {
	data, err := s.readValue(path)
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	var set struct {
		Version      uint64
		New          bool
		Rolled, Kept []string
	}
	if err := s.postJSON(ctx, k.path(ref, "set"), map[string][]byte{"Data": data}, &set); err != nil {
		return err
	}
	if set.New {
		fmt.Fprintf(s.out, "%s %s: version %d\n", k, ref, set.Version)
	} else {
		fmt.Fprintf(s.out, "%s %s: version %d has this content already\n", k, ref, set.Version)
	}
	for _, service := range set.Kept {
		fmt.Fprintf(s.err, "service %s stays with an older version: it refers to that one, or is a job\n", service)
	}
	var errs []error
	for _, service := range set.Rolled {
		fmt.Fprintf(s.out, "service %s is updated\n", service)
	}
	for _, service := range set.Rolled {
		if w.detach {
			break
		}
		if err := s.wait(ctx, api, w, service); err != nil {
			var exit *exitError
			if errors.As(err, &exit) && exit.code != 1 { // a timeout or Ctrl-C is for all
				return &exitError{code: exit.code, err: errors.Join(append(errs, exit.err)...)}
			}
			errs = append(errs, fmt.Errorf("%s: %w", service, err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &exitError{code: 1, err: errors.Join(errs...)}
}

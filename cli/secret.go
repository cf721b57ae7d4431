package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/cli/format"
)

// valueKind is "secret" or "config": the two have the same commands.
type valueKind string

const (
	secretKind valueKind = "secret"
	configKind valueKind = "config"
)

// operand is the name of one in --help.
func (k valueKind) operand() string { return strings.ToUpper(string(k)) }

// path is that of a call beside Docker's API.
func (k valueKind) path(ref, call string) string {
	return "/shoal/v1/" + string(k) + "s/" + url.PathEscape(ref) + "/" + call
}

func (s *shell) valueCommand(k valueKind) *command {
	return &command{
		name: string(k), short: "Manage " + string(k) + "s",
		commands: []*command{
			s.valueCreate(k), s.valueInspect(k), s.valueList(k), s.valueRemove(k), s.valueSet(k), s.valueVersions(k),
		},
	}
}

func (s *shell) valueList(k valueKind) *command {
	var (
		l listFlags
		f = &flags{}
	)
	l.add(f, "IDs", "id", "label", "name")
	return &command{
		name: "ls", aliases: []string{"list"}, operands: "[OPTIONS]", short: "List " + string(k) + "s", flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			if k == configKind {
				configs, err := api.ConfigList(ctx, swarm.ConfigListOptions{Filters: l.filter.Value()})
				if err != nil {
					return err
				}
				return format.Write(s.out, format.Configs(), l.format, l.quiet, format.ConfigRows(configs, time.Now()))
			}
			secrets, err := api.SecretList(ctx, swarm.SecretListOptions{Filters: l.filter.Value()})
			if err != nil {
				return err
			}
			return format.Write(s.out, format.Secrets(), l.format, l.quiet, format.SecretRows(secrets, time.Now()))
		},
	}
}

func (s *shell) valueInspect(k valueKind) *command {
	var (
		i    inspectFlags
		f    = &flags{}
		what = "; its data is never shown"
	)
	if k == configKind {
		what = ""
	}
	i.add(f)
	return &command{
		name: "inspect", operands: "[OPTIONS] " + k.operand() + " [" + k.operand() + "...]",
		short: "Display detailed information on one or more " + string(k) + "s", flags: f, min: 1, max: -1, completes: string(k),
		long: fmt.Sprintf("%s@N is version N of a %s%s.", k.operand(), k, what),
		run: func(ctx context.Context, args []string) error {
			if err := i.check(); err != nil {
				return err
			}
			api, err := s.connect()
			if err != nil {
				return err
			}
			if k == configKind {
				get := func(ref string) (any, []byte, error) { return api.ConfigInspectWithRaw(ctx, ref) }
				return s.inspect(&i, args, get, func(o any) { format.PrettyConfig(s.out, o.(swarm.Config)) })
			}
			get := func(ref string) (any, []byte, error) { return api.SecretInspectWithRaw(ctx, ref) }
			return s.inspect(&i, args, get, func(o any) { format.PrettySecret(s.out, o.(swarm.Secret)) })
		},
	}
}

func (s *shell) valueRemove(k valueKind) *command {
	return &command{
		name: "rm", aliases: []string{"remove"}, operands: k.operand() + " [" + k.operand() + "...]",
		short: "Remove one or more " + string(k) + "s", min: 1, max: -1, completes: string(k),
		long: fmt.Sprintf("A %s goes with all its versions; %s@N removes version N alone, if it is not the newest.", k, k.operand()),
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			remove := api.SecretRemove
			if k == configKind {
				remove = api.ConfigRemove
			}
			var errs []error
			for _, arg := range args {
				if err := remove(ctx, arg); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(s.out, arg)
			}
			return errors.Join(errs...)
		},
	}
}

func (s *shell) valueVersions(k valueKind) *command {
	var (
		l listFlags
		f = &flags{}
	)
	f.add((*templateValue)(&l.format), "string", "format", "Print with \"table TEMPLATE\", TEMPLATE (Go template) or \"json\"")
	f.toggle(&l.quiet, "quiet,q", "Only display IDs")
	return &command{
		name: "versions", operands: "[OPTIONS] " + k.operand(), short: "List the versions of a " + string(k) + " and the services that use them",
		long:  "The newest comes first. One that no revision of a service refers to is forgotten, but for the last but one.",
		flags: f, min: 1, max: 1, completes: string(k),
		run: func(ctx context.Context, args []string) error {
			var versions []format.ValueVersion
			if err := s.getJSON(ctx, k.path(args[0], "versions"), &versions); err != nil {
				return err
			}
			return format.Write(s.out, format.Versions(), l.format, l.quiet, format.VersionRows(versions, time.Now()))
		},
	}
}

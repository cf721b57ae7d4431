package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/cli/format"
)

// listFlags are what lists have in common.
type listFlags struct {
	format    string
	quiet     bool
	noTrunc   bool
	noResolve bool
	filter    opts.FilterOpt
}

// add makes the flags; keys are the filters that the list knows.
func (l *listFlags) add(f *flags, what string, keys ...string) {
	l.filter = opts.NewFilterOpt()
	f.add((*templateValue)(&l.format), "string", "format", "Print with \"table TEMPLATE\", TEMPLATE (Go template) or \"json\"")
	f.toggle(&l.quiet, "quiet,q", "Only display "+what)
	f.add(&filterValue{&l.filter, keys}, "filter", "filter,f", "Filter output by "+strings.Join(keys, ", ")+" (format: KEY=VALUE)")
}

// templateValue is a --format that can be parsed.
type templateValue string

// Set implements value.
func (t *templateValue) Set(s string) error {
	if err := format.Check(s); err != nil {
		return err
	}
	*t = templateValue(s)
	return nil
}

func (t *templateValue) String() string { return string(*t) }

// filterValue takes only filters that exist: a server that ignored one would
// answer with too much.
type filterValue struct {
	*opts.FilterOpt
	keys []string
}

// Set implements value.
func (v *filterValue) Set(s string) error {
	key := strings.ToLower(strings.TrimSpace(keyOf(s)))
	if !strings.Contains(s, "=") {
		return errors.New("bad format of filter (expected name=value)")
	}
	if slices.Contains(v.keys, key) {
		return v.FilterOpt.Set(s)
	}
	return fmt.Errorf("invalid filter %q: must be one of %s", key, quoteAll(v.keys))
}

func (l *listFlags) table() bool {
	return l.format == "" || l.format == "table" || strings.HasPrefix(l.format, "table ")
}

// printTasks prints tasks as service ps and node ps do.
func (s *shell) printTasks(ctx context.Context, api *client.Client, tasks []swarm.Task, l *listFlags) error {
	v := format.TaskView{
		Trunc: !l.noTrunc && !l.quiet, Indent: l.table(), Now: time.Now(),
		Service: func(id string) string { return id }, Node: func(id string) string { return id },
	}
	if !l.noResolve && !l.quiet {
		services, nodes, err := names(ctx, api)
		if err != nil {
			return err
		}
		v.Service, v.Node = nameOr(services), nameOr(nodes)
	}
	return format.Write(s.out, format.Tasks(), l.format, l.quiet, format.TaskRows(tasks, v))
}

func nameOr(names map[string]string) func(string) string {
	return func(id string) string {
		if name := names[id]; name != "" {
			return name
		}
		return id
	}
}

// names lists services and nodes once, instead of asking for each.
func names(ctx context.Context, api *client.Client) (services, nodes map[string]string, err error) {
	serviceList, err := api.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil, nil, err
	}
	nodeList, err := api.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, nil, err
	}
	services, nodes = map[string]string{}, map[string]string{}
	for _, s := range serviceList {
		services[s.ID] = s.Spec.Name
	}
	for _, n := range nodeList {
		nodes[n.ID] = n.Description.Hostname
		if n.Spec.Name != "" {
			nodes[n.ID] = n.Spec.Name
		}
	}
	return services, nodes, nil
}

// inspectFlags are what the inspect commands have in common.
type inspectFlags struct {
	format string
	pretty bool
}

func (i *inspectFlags) add(f *flags) {
	f.add((*templateValue)(&i.format), "string", "format,f", "Print with TEMPLATE (Go template) or \"json\"")
	f.toggle(&i.pretty, "pretty", "Print the information in a human friendly format")
}

func (i *inspectFlags) check() error {
	if i.pretty && i.format != "" {
		return errors.New("--format is incompatible with human friendly format")
	}
	return nil
}

// inspect prints what get finds, and reports what it does not.
func (s *shell) inspect(i *inspectFlags, refs []string, get func(ref string) (any, []byte, error), pretty func(any)) error {
	var errs []error
	var found []format.Object
	for _, ref := range refs {
		typed, raw, err := get(ref)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if i.pretty {
			pretty(typed)
			continue
		}
		found = append(found, format.Object{Typed: typed, Raw: raw})
	}
	if !i.pretty {
		if i.format == "" || i.format == "json" || len(found) > 0 {
			errs = append(errs, format.Inspect(s.out, i.format, found))
		}
	}
	return errors.Join(errs...)
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/docker/docker/api/types/swarm"

	"shoal/cli/format"
)

// addRebalance adds the setting of a service or the cluster. fallback is the word
// that takes it back.
func (f *flags) addRebalance(p *string, fallback string) {
	f.choice(p, "rebalance", "What is done when tasks would be better placed on other nodes: move them, tell who asks, nothing", "auto", "advise", "off", "default").def(fallback)
}

// rebalanceSetting is what is sent for it; nil: it is left as it is.
func rebalanceSetting(f *flags, word string) *string {
	if !f.changed("rebalance") {
		return nil
	}
	if word == "default" {
		word = ""
	}
	return &word
}

// extendedSwarmSpec is the cluster's spec with what Docker's types leave out.
type extendedSwarmSpec struct {
	swarm.Spec
	Rebalance *string `json:",omitempty"`
}

func (s *shell) updateCommand() *command {
	var (
		rebalance string
		f         = &flags{}
	)
	f.addRebalance(&rebalance, `"advise"`)
	return &command{
		name: "update", operands: "[OPTIONS]", short: "Change settings of the cluster",
		long:  "--rebalance counts for services that have no setting of their own: see 'shoal service update --rebalance' and 'shoal rebalance'.\n'docker swarm update' changes what Docker knows of.",
		flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			setting := rebalanceSetting(f, rebalance)
			if setting == nil {
				return errors.New("nothing to change: give a setting, such as --rebalance")
			}
			if err := reread(func() error { return s.updateCluster(ctx, setting) }); err != nil {
				return err
			}
			fmt.Fprintln(s.out, "Cluster updated.")
			return nil
		},
	}
}

func (s *shell) updateCluster(ctx context.Context, setting *string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	cluster, err := api.SwarmInspect(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(extendedSwarmSpec{cluster.Spec, setting})
	if err != nil {
		return err
	}
	query := url.Values{"version": {cluster.Version.String()}}
	return s.callWith(ctx, http.MethodPost, "/swarm/update?"+query.Encode(), http.Header{}, bytes.NewReader(body), nil)
}

func (s *shell) rebalanceCommand() *command {
	var (
		all, dry bool
		f        = &flags{}
	)
	f.toggle(&all, "all,a", "All services")
	f.toggle(&dry, "dry-run", "Only show what would be moved")
	return &command{
		name: "rebalance", operands: "[OPTIONS] [SERVICE...]", short: "Move tasks to nodes where they are better placed today",
		long: "Evens out, once, what nodes that joined or came back have left uneven: whatever the services' settings are, by the rules by which tasks are placed." +
			" One task of a service moves at a time: its successor starts first, and the task serves until that runs." +
			" It goes on in the background; see 'shoal service ps SERVICE' and 'shoal why SERVICE'.\n\n" +
			"Left where they are: tasks of global services and jobs, tasks that write to a directory or volume of their node, and services that are being updated or do not run as they should.",
		flags: f, min: 0, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			switch {
			case all && len(args) > 0:
				return errors.New("--all goes without names of services")
			case !all && !dry && len(args) == 0:
				return errors.New("name a service, or give --all")
			}
			return s.runRebalance(ctx, args, dry)
		},
	}
}

func (s *shell) runRebalance(ctx context.Context, refs []string, dry bool) error {
	query := url.Values{"service": refs}
	var found []format.Balance
	if err := s.getJSON(ctx, "/shoal/v1/rebalance?"+query.Encode(), &found); err != nil {
		return err
	}
	if dry {
		return format.WriteBalance(s.out, found, len(refs) > 0)
	}
	var errs []error
	var begun []format.Balance
	for _, b := range found {
		if len(refs) == 0 && len(b.Moves) == 0 {
			continue // of all services, those that need it
		}
		var answer format.Balance
		if err := s.postJSON(ctx, servicePath(b.ServiceID, "rebalance"), struct{}{}, &answer); err != nil {
			errs = append(errs, err)
			continue
		}
		begun = append(begun, answer)
	}
	return errors.Join(append(errs, format.WriteBalance(s.out, begun, len(refs) > 0))...)
}

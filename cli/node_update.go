package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/swarm"
)

func (s *shell) nodeUpdate() *command {
	var (
		availability, role string
		labels             pair
		f                  = &flags{}
	)
	f.choice(&availability, "availability", "Availability of the node", "active", "pause", "drain")
	f.choice(&role, "role", "Role of the node", "worker", "manager")
	f.add(opts.NewListOptsRef(&labels.add, opts.ValidateLabel), "list", "label-add", "Add or update a node label (KEY=VALUE)").wants("KEY=VALUE")
	f.add(opts.NewListOptsRef(&labels.rm, validateKey), "list", "label-rm", "Remove a node label if exists")
	return &command{
		name: "update", operands: "[OPTIONS] NODE", short: "Update a node", flags: f, min: 1, max: 1, completes: "node",
		run: func(ctx context.Context, args []string) error {
			change := func(n *swarm.Node) error {
				if role != "" {
					n.Spec.Role = swarm.NodeRole(role)
				}
				if availability != "" {
					n.Spec.Availability = swarm.NodeAvailability(availability)
				}
				return mergeNodeLabels(&n.Spec, labels)
			}
			return s.updateNodes(ctx, args, change, func(ref string) { fmt.Fprintln(s.out, ref) })
		},
	}
}

func mergeNodeLabels(spec *swarm.NodeSpec, p pair) error {
	all := maps.Clone(spec.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, opts.ConvertKVStringsToMap(p.add))
	for _, key := range p.rm {
		if _, ok := all[key]; !ok {
			return fmt.Errorf("key %s doesn't exist in node's labels", key)
		}
		delete(all, key)
	}
	spec.Labels = all
	return nil
}

// errUnchanged: the node is so already.
var errUnchanged = errors.New("unchanged")

func (s *shell) updateNodes(ctx context.Context, refs []string, change func(*swarm.Node) error, done func(ref string)) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		id, err := nodeRef(ctx, api, ref)
		if err != nil {
			return err
		}
		err = reread(func() error {
			node, _, err := api.NodeInspectWithRaw(ctx, id)
			if err != nil {
				return err
			}
			if err := change(&node); err != nil {
				return err
			}
			return api.NodeUpdate(ctx, node.ID, node.Version, node.Spec)
		})
		switch {
		case errors.Is(err, errUnchanged):
			continue
		case err != nil:
			return err
		}
		done(ref)
	}
	return nil
}

func (s *shell) nodeRole(name, short string, role swarm.NodeRole) *command {
	return &command{
		name: name, operands: "NODE [NODE...]", short: short, min: 1, max: -1, completes: "node",
		run: func(ctx context.Context, args []string) error {
			change := func(n *swarm.Node) error {
				if n.Spec.Role == role {
					fmt.Fprintf(s.out, "Node %s is already a %s.\n", n.ID, role)
					return errUnchanged
				}
				n.Spec.Role = role
				return nil
			}
			return s.updateNodes(ctx, args, change, func(ref string) {
				if role == swarm.NodeRoleManager {
					fmt.Fprintf(s.out, "Node %s promoted to a manager in the swarm.\n", ref)
					return
				}
				fmt.Fprintf(s.out, "Manager %s demoted in the swarm.\n", ref)
			})
		},
	}
}

// nodeAvailability is short for node update --availability.
func (s *shell) nodeAvailability(name, short string, a swarm.NodeAvailability) *command {
	return &command{
		name: name, operands: "NODE [NODE...]", short: short, min: 1, max: -1, completes: "node",
		long: fmt.Sprintf("Same as 'shoal node update --availability %s' for each node.", a),
		run: func(ctx context.Context, args []string) error {
			change := func(n *swarm.Node) error {
				n.Spec.Availability = a
				return nil
			}
			return s.updateNodes(ctx, args, change, func(ref string) { fmt.Fprintln(s.out, ref) })
		},
	}
}

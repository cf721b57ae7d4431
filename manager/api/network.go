package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"shoal/internal/id"
	"shoal/manager/allocator"
	"shoal/raftstore/state"
)

// gatewayNetwork is the name of the network that each node has of its own, for
// what goes out of and comes into the cluster.
const gatewayNetwork = "shoal_gw"

func findNetwork(v *state.View, ref string) (*state.Network, error) {
	return choose("network", ref, v.Network, one(v.NetworkByName(ref)), v.NetworksByPrefix(ref))
}

func (a *API) listNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := ParseNetworkFilter(r.URL.Query())
	if err != nil {
		return err
	}
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	return writeList(w, func(yield func(*network.Summary) bool) {
		for n := range v.Networks() {
			out := presentNetwork(n)
			if f.Match(out, len(users(v, n, 1)) > 0) && !yield(&out) {
				return
			}
		}
	})
}

func (a *API) inspectNetwork(w http.ResponseWriter, r *http.Request) error {
	verbose, err := boolParam(r, "verbose")
	if err != nil {
		return err
	}
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	n, err := findNetwork(v, r.PathValue("id"))
	if err != nil {
		return err
	}
	out := presentNetwork(n)
	out.Peers = peersOf(v, n)
	if verbose {
		out.Services = servicesOn(v, n)
	}
	return writeJSON(w, &out)
}

func (a *API) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var request network.CreateRequest
	body, err := readJSON(w, r, &request)
	if err != nil {
		return err
	}
	if err := checkNetwork(&request); err != nil {
		return err
	}
	networkID := id.New()
	answer, err := encode(network.CreateResponse{ID: networkID})
	if err != nil {
		return err
	}
	out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
		changes, err := planNetwork(v, networkID, &request)
		return changes, outcome{http.StatusCreated, answer}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// checkNetwork refuses what no state of the cluster would take in.
func checkNetwork(r *network.CreateRequest) error {
	switch {
	case state.Predefined(r.Name) || r.Name == "default":
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network ", r.Name))
	case r.Name == gatewayNetwork:
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network: every node has its own", r.Name))
	case r.Name == "":
		return rpcInvalid("meta: name must be provided")
	case len(r.Name) > maxServiceName:
		return rpcInvalid("name must be 63 characters or fewer")
	case !isServiceName(r.Name):
		return rpcInvalid("name must be valid as a DNS name component")
	}
	if _, ok := r.Labels["com.docker.swarm.predefined"]; ok {
		return errdefs.ErrPermissionDenied.WithMessage(rpcText("PermissionDenied", "label com.docker.swarm.predefined is for internally created predefined networks and cannot be applied by users", nil))
	}
	if err := validateLabels("Labels", r.Labels); err != nil {
		return err
	}
	return allocator.CheckNetwork(r)
}

func planNetwork(v *state.View, networkID string, r *network.CreateRequest) ([]state.Change, error) {
	if v.NetworkByName(r.Name) != nil {
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", r.Name))
	}
	if old := v.Ingress(); old != nil && r.Ingress {
		return nil, rpcExists("ingress network (%s) is already present", old.ID)
	}
	n, err := allocator.NewNetwork(v, networkID, r)
	if err != nil {
		return nil, err
	}
	return []state.Change{state.Put(n)}, nil
}

func (a *API) removeNetwork(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("id")
	out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
		n, err := findNetwork(v, ref)
		if err == nil {
			err = checkUnused(v, n)
		}
		if err != nil {
			return nil, outcome{}, err
		}
		return []state.Change{state.Delete(state.KindNetwork, n.ID)}, outcome{status: http.StatusNoContent}, nil
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// checkUnused refuses to remove a network that anything is on, and names it.
func checkUnused(v *state.View, n *state.Network) error {
	const most = 10 // names, so that the message can be read
	found := users(v, n, most+1)
	if len(found) == 0 {
		return nil
	}
	names := make([]string, 0, len(found))
	for _, u := range found {
		names = append(names, u.String())
	}
	if len(names) > most {
		names = append(names[:most], "and more")
	}
	first, all := found[0], strings.Join(names, ", ")
	if n.Spec.Ingress && first.kind == "service" {
		return rpcPrecondition("ingress network cannot be removed because service %s depends on it; it is used by %s", first.id, all)
	}
	return rpcPrecondition("network %s is in use by %s %s; network %s is used by %s", n.ID, first.kind, first.id, n.Spec.Name, all)
}

// user is something that keeps a network from being removed.
type user struct{ kind, id, name string }

func (u user) String() string { return u.kind + " " + u.name }

// users are up to most of those who use a network: services, then tasks that
// have not ended, then containers.
func users(v *state.View, n *state.Network, most int) (found []user) {
	services := v.ServicesOfNetwork(n.ID)
	if n.Spec.Ingress {
		services = v.ServicesPublished()
	}
	for s := range services {
		if found = append(found, user{"service", s.ID, s.Spec.Name}); len(found) == most {
			return found
		}
	}
	for t := range v.TasksOfNetwork(n.ID) {
		if found = append(found, user{"task", t.ID, TaskName(v, t)}); len(found) == most {
			return found
		}
	}
	for a := range v.AttachmentsOfNetwork(n.ID) {
		if found = append(found, user{"container", a.ID, a.Name + " on " + hostnameOf(v, a.NodeID)}); len(found) == most {
			return found
		}
	}
	return found
}

func hostnameOf(v *state.View, nodeID string) string {
	if n := v.Node(nodeID); n != nil && n.Description.Hostname != "" {
		return n.Description.Hostname
	}
	return nodeID
}

func (a *API) pruneNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := ParsePruneFilter(r.URL.Query(), time.Now())
	if err != nil {
		return err
	}
	out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
		changes, report := planPrune(v, f)
		answer, err := encode(report)
		return changes, outcome{http.StatusOK, answer}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// planPrune removes the networks that nothing is on, but for ingress.
func planPrune(v *state.View, f PruneFilter) (changes []state.Change, report network.PruneReport) {
	for n := range v.Networks() {
		if n.Spec.Ingress || !f.Match(n.CreatedAt, n.Spec.Labels) || len(users(v, n, 1)) > 0 {
			continue
		}
		changes = append(changes, state.Delete(state.KindNetwork, n.ID))
		report.NetworksDeleted = append(report.NetworksDeleted, n.Spec.Name)
	}
	return changes, report
}

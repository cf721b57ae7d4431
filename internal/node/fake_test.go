package node

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// fakeNetworks is as much of an engine as networks need.
type fakeNetworks struct {
	networks   []network.Inspect
	containers map[string]string // addresses by name
	on         map[string]string // networks by name: where containers were connected to
	refuse     map[string]string // by "METHOD path"
	requests   []string
	body       map[string]any // of the last container
}

func (f *fakeNetworks) add(networkID, name string) string {
	engineID := "e" + strings.Repeat("0", 20) + networkID
	if slices.ContainsFunc(f.networks, func(n network.Inspect) bool { return n.ID == engineID }) {
		return engineID
	}
	n := network.Inspect{
		Name: name, ID: engineID, Driver: "bridge", Scope: "local", Internal: true, Labels: map[string]string{},
		IPAM:       network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.0.1.0/24", Gateway: "10.0.1.1", IPRange: "10.0.1.1/32"}}},
		Containers: map[string]network.EndpointResource{},
	}
	if networkID != "" {
		n.Labels = map[string]string{labelNetwork: networkID, labelAttachable: "true", "team": "a"}
	}
	f.networks = append(f.networks, n)
	return engineID
}

func (f *fakeNetworks) local(id, name string) {
	f.networks = append(f.networks, network.Inspect{Name: name, ID: id, Driver: "bridge", Scope: "local", Containers: map[string]network.EndpointResource{}})
}

func (f *fakeNetworks) find(ref string) *network.Inspect {
	for i, n := range f.networks {
		if n.ID == ref || n.Name == ref || strings.HasPrefix(n.ID, ref) {
			return &f.networks[i]
		}
	}
	return nil
}

func (f *fakeNetworks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1.41")
	f.requests = append(f.requests, r.Method+" "+path)
	if text, ok := f.refuse[r.Method+" "+path]; ok {
		writeError(w, http.StatusNotFound, errors.New(text))
		return
	}
	parts := strings.Split(path, "/")[1:]
	switch {
	case path == "/networks":
		f.list(w, r.URL.Query())
	case path == "/networks/create":
		w.WriteHeader(http.StatusCreated)
		writeJSON(w, network.CreateResponse{ID: "created-by-the-engine"})
	case path == "/containers/create":
		_ = json.NewDecoder(r.Body).Decode(&f.body)
		f.containers[r.URL.Query().Get("name")] = f.addr()
		w.WriteHeader(http.StatusCreated)
		writeJSON(w, map[string]string{"Id": "c0ffee"})
	case path == "/containers/json":
		f.listContainers(w)
	case parts[0] == "containers" && len(parts) == 3:
		writeJSON(w, map[string]any{"Id": parts[1] + "id", "Name": "/" + parts[1], "NetworkSettings": map[string]any{
			"Networks": map[string]any{"any": network.EndpointSettings{NetworkID: f.on[parts[1]]}},
		}})
	case parts[0] == "containers" && r.Method == http.MethodDelete:
		clear(f.containers)
	case parts[0] == "networks" && f.find(parts[1]) == nil:
		writeError(w, http.StatusNotFound, errors.New("network "+parts[1]+" not found"))
	case parts[0] == "networks" && len(parts) == 3:
		var o network.ConnectOptions
		_ = json.NewDecoder(r.Body).Decode(&o)
		f.on = map[string]string{o.Container: f.find(parts[1]).ID}
		if parts[2] == "disconnect" {
			clear(f.on)
		}
		if o.EndpointConfig != nil && o.EndpointConfig.IPAMConfig != nil {
			f.containers[o.Container] = o.EndpointConfig.IPAMConfig.IPv4Address
		}
	case r.Method == http.MethodDelete:
		gone := f.find(parts[1]).ID
		f.networks = slices.DeleteFunc(f.networks, func(n network.Inspect) bool { return n.ID == gone })
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, f.find(parts[1]))
	}
}

func (f *fakeNetworks) list(w http.ResponseWriter, query url.Values) {
	args, _ := filters.FromJSON(query.Get("filters"))
	out := []network.Inspect{}
	for _, n := range f.networks {
		_, labelled := n.Labels[labelNetwork]
		if args.Contains("label") && !labelled || !args.ExactMatch("driver", n.Driver) || !args.Match("name", n.Name) || !args.ExactMatch("scope", n.Scope) {
			continue
		}
		out = append(out, n)
	}
	writeJSON(w, out)
}

// addr is the IPv4 address that the last container was made with.
func (f *fakeNetworks) addr() string {
	raw, _ := json.Marshal(f.body["NetworkingConfig"])
	var c network.NetworkingConfig
	_ = json.Unmarshal(raw, &c)
	for _, e := range c.EndpointsConfig {
		if e.IPAMConfig != nil {
			return e.IPAMConfig.IPv4Address
		}
	}
	return ""
}

func (f *fakeNetworks) listContainers(w http.ResponseWriter) {
	out := []map[string]any{}
	for name, addr := range f.containers {
		out = append(out, map[string]any{"Names": []string{name}, "NetworkSettings": map[string]any{"Networks": map[string]any{
			"x": map[string]any{"IPAMConfig": map[string]string{"IPv4Address": addr}},
		}}})
	}
	writeJSON(w, out)
}

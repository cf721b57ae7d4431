package doctor

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/overlay/check"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// nodesAt answer as nodes do, by the address that is called.
type nodesAt struct {
	mu      sync.Mutex
	asked   map[string]check.Request
	answers map[string]func(check.Request) (int, any)
}

func (n *nodesAt) RoundTrip(r *http.Request) (*http.Response, error) {
	var request check.Request
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.asked[r.URL.Host] = request
	answer := n.answers[r.URL.Host]
	n.mu.Unlock()
	if r.Method != http.MethodPost || r.URL.Path != check.Path || answer == nil {
		return nil, io.ErrUnexpectedEOF
	}
	status, body := answer(request)
	text, err := json.Marshal(body)
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(string(text)))}, err
}

func well(id string) func(check.Request) (int, any) {
	return func(check.Request) (int, any) {
		return http.StatusOK, check.Report{NodeID: id, Received: time.Now(), Sent: time.Now(), Audited: true}
	}
}

func node(id, addr, mesh string) *state.Node {
	n := statetest.Node(id)
	n.Addr, n.Description.Hostname = addr, "host-"+id
	if mesh != "" {
		n.Mesh = []netip.Prefix{netip.MustParsePrefix(mesh)}
	}
	return n
}

func cluster() *state.Cluster {
	c := &state.Cluster{MeshPool: netip.MustParsePrefix("10.252.0.0/14"), ClusterInfo: swarm.ClusterInfo{ID: "c", DefaultAddrPool: []string{"10.0.0.0/8"}}}
	return c
}

func TestExamineAsksEveryNode(t *testing.T) {
	network := &state.Network{Pools: []state.Pool{{Subnet: netip.MustParsePrefix("10.0.1.0/24")}}}
	network.ID = "net1"
	v := statetest.View(
		cluster(), network, node("a", "192.0.2.1:2377", "10.252.1.0/24"), node("b", "192.0.2.2:2377", ""),
		node("c", "192.0.2.3:2377", ""), node("d", "192.0.2.4:2377", ""), node("e", "", ""),
	)
	nodes := &nodesAt{asked: map[string]check.Request{}, answers: map[string]func(check.Request) (int, any){
		"192.0.2.1:2377": well("a"),
		"192.0.2.2:2377": func(check.Request) (int, any) { return http.StatusServiceUnavailable, "busy" },
		"192.0.2.3:2377": well("x"), // another node has its address now
	}}
	d, err := Examine(t.Context(), v, &http.Client{Transport: nodes})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range d.Findings {
		got = append(got, f.Node+" "+f.Check)
	}
	if want := []string{"host-b reachable", "host-c reachable", "host-d reachable", "host-e reachable"}; !slices.Equal(got, want) || len(d.Nodes) != 5 {
		t.Errorf("findings %v, want %v; nodes %+v", got, want, d.Nodes)
	}
	r := nodes.asked["192.0.2.1:2377"]
	if r.Self.NodeID != "a" || r.Self.Mesh.String() != "10.252.1.254" || len(r.Peers) != 4 || r.Pool != cluster().MeshPool || r.Port != 4789 || r.Window != window {
		t.Errorf("request: %+v", r)
	}
	if want := []netip.Prefix{cluster().MeshPool, netip.MustParsePrefix("10.0.1.0/24")}; !slices.Equal(r.Subnets, want) || len(r.Pools) != 1 {
		t.Errorf("subnets %v, want %v; pools %v", r.Subnets, want, r.Pools)
	}
}

func TestExamineWithoutACluster(t *testing.T) {
	if _, err := Examine(t.Context(), statetest.View(), http.DefaultClient); !errdefs.IsUnavailable(err) {
		t.Errorf("%v", err)
	}
}

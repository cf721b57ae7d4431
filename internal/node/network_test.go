package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/manager"
	"shoal/manager/api"
	"shoal/manager/relay"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// host is a node between a fake engine and, on managers, a real API over a
// state in memory.
type host struct {
	*testing.T
	node   *Node
	view   networkView
	store  *statetest.Store
	engine *fakeNetworks
}

func newHost(t *testing.T, manager bool, objs ...state.Object) *host {
	t.Helper()
	h := &host{T: t, store: statetest.New(objs...), engine: &fakeNetworks{containers: map[string]string{}, refuse: map[string]string{}}}
	dir, err := os.MkdirTemp("", "shoal-node") //nolint:usetesting // TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "e.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h.engine)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	cfg, err := Config{StateDir: dir, Engine: "unix://" + socket, Log: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	h.node = &Node{cfg: cfg, log: cfg.Log, engine: newEngineProxy(cfg), joined: make(chan *member, 1)}
	t.Cleanup(h.node.engine.close)
	a, err := api.New(api.Config{Store: h.store, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.Handle(r.Method+" "+r.Pattern, r.Handler)
	}
	m := newMember(h.node, &record{NodeID: "n1", ClusterID: "c1"}, nil)
	m.attachments = newAttachments(rpcOver(mux), h.node.engine, cfg.Log)
	m.networkReady = func(_ context.Context, networkID string) (string, error) {
		return h.engine.add(networkID, h.store.View().Network(networkID).Spec.Name), nil
	}
	m.gatewayReady = func(context.Context) (string, error) { return "abe", nil }
	h.node.member = m
	h.view = networkView{engine: h.node.engine}
	if manager {
		h.view.cluster = mux
	}
	return h
}

// rpcOver is what managers do with the calls of node n1.
func rpcOver(mux http.Handler) func(ctx context.Context, path string, body, into any) error {
	return func(ctx context.Context, path string, body, into any) error {
		method, target := http.MethodPost, api.AttachmentPath
		switch path {
		case manager.PathDetach:
			method, target, body = http.MethodDelete, api.AttachmentPath+"/"+body.(manager.Detach).ID+"?node=n1", nil
		case manager.PathAttachments:
			method, target, body = http.MethodGet, api.AttachmentPath+"?node=n1", nil
		}
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		if body == nil {
			data = nil
		}
		r := httptest.NewRequestWithContext(ctx, method, target, bytes.NewReader(data))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code >= 300 {
			return relay.Refusal(w.Code, w.Body.Bytes())
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(w.Body.Bytes(), into)
	}
}

// do sends a request through the node's routes of networks.
func (h *host) do(method, path string, body any) (int, string) {
	h.Helper()
	mux := http.NewServeMux()
	with := func(f func(networkView, http.ResponseWriter, *http.Request) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := f(h.view, w, r); err != nil {
				api.WriteError(w, err)
			}
		}
	}
	mux.Handle("GET /networks", with(networkView.list))
	mux.Handle("GET /networks/{name}", with(networkView.inspect))
	mux.Handle("POST /networks/create", with(h.node.createNetwork))
	mux.Handle("POST /networks/prune", with(networkView.prune))
	mux.Handle("DELETE /networks/{name}", with(h.node.removeNetwork))
	mux.Handle("POST /networks/{name}/connect", with(h.node.connectContainer))
	mux.Handle("POST /networks/{name}/disconnect", with(h.node.disconnectContainer))
	mux.Handle("POST /containers/create", with(h.node.createContainer))
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			h.Fatal(err)
		}
	}
	r := httptest.NewRequestWithContext(h.Context(), method, "/v1.41"+path, bytes.NewReader(content))
	r.Header.Set("Content-Type", "application/json")
	bare, err := api.Unversioned(r)
	if err != nil {
		h.Fatal(err)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, withOriginal(bare, r.URL.Path))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func (h *host) names(query string) string {
	h.Helper()
	status, text := h.do("GET", "/networks"+query, nil)
	var list []network.Summary
	if err := json.Unmarshal([]byte(text), &list); status != http.StatusOK || err != nil {
		return fmt.Sprintf("%d %s", status, text)
	}
	var names []string
	for _, n := range list {
		names = append(names, n.Name+"/"+n.Driver+"/"+n.Scope)
	}
	return strings.Join(names, " ")
}

func sharedNetwork(id, name string, options ...func(*state.Network)) *state.Network {
	n := &state.Network{VNI: 4097, Pools: []state.Pool{{Subnet: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")}}}
	n.ID, n.Spec.Name, n.Spec.Attachable = id, name, true
	for _, o := range options {
		o(n)
	}
	return n
}

func theCluster() state.Object {
	return &state.Cluster{ClusterInfo: swarm.ClusterInfo{ID: "c1"}}
}

func TestNetworksAreShownOnce(t *testing.T) {
	for _, manager := range []bool{true, false} {
		h := newHost(t, manager, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"))
		h.engine.local("abc", "bridge")
		h.engine.local("abd", "mine")
		h.engine.add("backid", "back")
		for query, want := range map[string]string{
			"":                                    "back/overlay/swarm bridge/bridge/local mine/bridge/local",
			`?filters={"driver":["overlay"]}`:     "back/overlay/swarm",
			`?filters={"driver":["bridge"]}`:      "bridge/bridge/local mine/bridge/local",
			`?filters={"scope":["swarm"]}`:        "back/overlay/swarm",
			`?filters={"scope":["local"]}`:        "bridge/bridge/local mine/bridge/local",
			`?filters={"name":["^(back|mine)$"]}`: "back/overlay/swarm mine/bridge/local",
			`?filters={"colour":["red"]}`:         `400 {"message":"invalid filter 'colour'"}`,
		} {
			key, filter, _ := strings.Cut(query, "=")
			if filter != "" {
				key += "=" + url.QueryEscape(filter)
			}
			if got := h.names(key); got != want {
				t.Errorf("manager %v, %s: %s, want %s", manager, query, got, want)
			}
		}
	}
}

func TestInspectFindsTheNetworkThatIsMeant(t *testing.T) {
	for _, manager := range []bool{true, false} {
		h := newHost(t, manager, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"), sharedNetwork("mineid", "other"))
		h.engine.local("abc", "mine")
		half := h.engine.add("backid", "back")
		h.engine.find(half).Containers = map[string]network.EndpointResource{"c0ffee": {Name: "box", IPv4Address: "10.0.1.9/24"}}
		for ref, want := range map[string]string{
			"back": "backid/overlay swarm 1", "backid": "backid/overlay swarm 1", half: "backid/overlay swarm 1",
			"mine": "abc/bridge local 0", "abc": "abc/bridge local 0", "ab": "abc/bridge local 0",
			"nope": "404 network nope not found", "back?scope=local": "404 network back not found", "mine?scope=swarm": "404 network mine not found",
			"host?scope=swarm": "host/host swarm 0",
		} {
			if manager && strings.HasPrefix(ref, "mine?") {
				want = "mineid/overlay swarm 0" // the beginning of an id
			}
			status, text := h.do("GET", "/networks/"+ref, nil)
			var n network.Inspect
			var refusal struct {
				Message string `json:"message"`
			}
			_ = json.Unmarshal([]byte(text), &n)
			_ = json.Unmarshal([]byte(text), &refusal)
			got := fmt.Sprintf("%s/%s %s %d", n.ID, n.Driver, n.Scope, len(n.Containers))
			if status != http.StatusOK {
				got = fmt.Sprintf("%d %s", status, refusal.Message)
			}
			if got != want {
				t.Errorf("manager %v, %s: %s, want %s", manager, ref, got, want)
			}
		}
	}
}

func TestAHalfIsShownAsItsNetwork(t *testing.T) {
	h := newHost(t, false, theCluster())
	h.engine.add("backid", "back.backid")
	_, text := h.do("GET", "/networks/backid", nil)
	var n network.Inspect
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	want := network.Inspect{
		Name: "back", ID: "backid", Scope: "swarm", Driver: "overlay", EnableIPv4: true, Attachable: true,
		IPAM:       network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: "10.0.1.0/24", Gateway: "10.0.1.1"}}},
		Containers: map[string]network.EndpointResource{}, Options: map[string]string{}, Labels: map[string]string{"team": "a"},
	}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("half (-want +got):\n%s", diff)
	}
}

func TestNetworksAreMadeWhereTheyBelong(t *testing.T) {
	request := func(name, driver, scope string) network.CreateRequest {
		return network.CreateRequest{Name: name, CreateOptions: network.CreateOptions{Driver: driver, Scope: scope}}
	}
	h := newHost(t, true, theCluster(), statetest.Node("n1"))
	h.engine.local("abc", "mine")
	for _, c := range []struct {
		request network.CreateRequest
		status  int
		want    string
	}{
		{request("web", "bridge", ""), 201, "created-by-the-engine"},
		{request("web", "", ""), 201, "created-by-the-engine"},
		{request("web", "overlay", ""), 201, `"Id":"`},
		{request("web", "overlay", ""), 409, "network with name web already exists"},
		{request("mine", "overlay", ""), 409, "network with name mine already exists"},
		{request("bridge", "overlay", ""), 403, "predefined bridge network"},
		{request("x", "macvlan", "swarm"), 501, "Driver macvlan with scope swarm"},
	} {
		if status, text := h.do("POST", "/networks/create", c.request); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("create %s %s: %d %s, want %d %s", c.request.Name, c.request.Driver, status, text, c.status, c.want)
		}
	}
	worker := newHost(t, false, theCluster())
	if status, text := worker.do("POST", "/networks/create", request("web", "overlay", "")); status != 503 || !strings.Contains(text, "This node is not a swarm manager") {
		t.Errorf("on a worker: %d %s", status, text)
	}
}

func TestRemoveAndPrune(t *testing.T) {
	h := newHost(t, true, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"), sharedNetwork("idleid", "idle"),
		&state.Attachment{ID: "a1", NodeID: "n1", NetworkID: "backid", Name: "box"})
	h.engine.local("abc", "mine")
	h.engine.local("abd", "theirs")
	h.engine.local("abe", gatewayNetwork)
	half := h.engine.add("backid", "back")
	if status, text := h.do("DELETE", "/networks/"+half, nil); status != 400 || !strings.Contains(text, "network back is used by container box on n1") {
		t.Errorf("remove a half: %d %s", status, text)
	}
	if status, text := h.do("DELETE", "/networks/mine", nil); status != 204 {
		t.Errorf("remove the engine's: %d %s", status, text)
	}
	status, text := h.do("POST", "/networks/prune", nil)
	if status != 200 || text != `{"NetworksDeleted":["idle","theirs"]}` {
		t.Errorf("prune: %d %s", status, text)
	}
	if got := h.names(""); got != "back/overlay/swarm shoal_gw/bridge/local" {
		t.Errorf("left: %s", got)
	}
}

func TestContainersGetAPlace(t *testing.T) {
	h := newHost(t, false, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"),
		sharedNetwork("closedid", "closed", func(n *state.Network) { n.Spec.Attachable = false }))
	h.engine.local("abc", "mine")
	h.engine.local("abe", gatewayNetwork)
	create := func(mode string, more map[string]any) (int, string) {
		body := map[string]any{"Image": "web:1", "Labels": map[string]string{"a": "b"}, "HostConfig": map[string]any{"NetworkMode": mode, "Memory": 7}}
		maps.Copy(body, more)
		return h.do("POST", "/containers/create?name=box", body)
	}
	endpoint := func(e network.EndpointSettings) map[string]any {
		return map[string]any{"NetworkingConfig": network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"back": &e}}}
	}
	if status, text := create("back", endpoint(network.EndpointSettings{Aliases: []string{"db"}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.0.1.9"}})); status != 201 || text != `{"Id":"c0ffee"}` {
		t.Fatalf("create: %d %s", status, text)
	}
	var at *state.Attachment
	for a := range h.store.View().Attachments() {
		at = a
	}
	if at == nil || at.NodeID != "n1" || at.Name != "box" || at.Addrs[0].String() != "10.0.1.9/24" || !slices.Equal(at.Aliases, []string{"db"}) {
		t.Fatalf("attachment: %+v", at)
	}
	half := h.engine.find("back").ID
	want := map[string]any{
		"Image": "web:1", "Labels": map[string]any{"a": "b", labelAttachment: at.ID}, "MacAddress": "02:42:0a:00:01:09",
		"HostConfig": map[string]any{"NetworkMode": half, "Memory": 7.0, "Dns": []any{"10.0.1.1"}},
	}
	networking := h.engine.body["NetworkingConfig"].(map[string]any)["EndpointsConfig"].(map[string]any)[half].(map[string]any)
	delete(h.engine.body, "NetworkingConfig")
	if diff := cmp.Diff(want, h.engine.body); diff != "" {
		t.Errorf("what the engine was asked for (-want +got):\n%s", diff)
	}
	if fmt.Sprintf("%v %v %v", networking["IPAMConfig"], networking["Aliases"], networking["MacAddress"]) != "map[IPv4Address:10.0.1.9] [db] 02:42:0a:00:01:09" {
		t.Errorf("endpoint: %v", networking)
	}
	if !slices.Contains(h.engine.requests, "POST /networks/abe/connect") {
		t.Errorf("not connected to %s: %v", gatewayNetwork, h.engine.requests)
	}
	for name, c := range map[string]struct {
		mode   string
		more   map[string]any
		status int
		want   string
	}{
		"not attachable":        {"closed", nil, 403, "network closed not manually attachable"},
		"address taken":         {"back", endpoint(network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.0.1.9"}}), 400, "address 10.0.1.9 of network back is in use"},
		"not an address":        {"back", endpoint(network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "ten"}}), 400, "invalid IPv4 address: ten"},
		"IPv6 address":          {"back", endpoint(network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv6Address: "fd00::1"}}), 400, "IPAMConfig.IPv6Address fd00::1"},
		"hardware address":      {"back", endpoint(network.EndpointSettings{MacAddress: "02:42:00:00:00:01"}), 400, "MacAddress 02:42:00:00:00:01"},
		"hardware address, old": {"back", map[string]any{"MacAddress": "02:42:00:00:00:01"}, 400, "MacAddress 02:42:00:00:00:01"},
	} {
		before, _ := h.store.View().Hash()
		status, text := create(c.mode, c.more)
		if status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s, want %d %s", name, status, text, c.status, c.want)
		}
		if count(h.store.View().Attachments()) != 1 {
			t.Errorf("%s: a place was left behind (state %s)", name, before)
		}
	}
	h.engine.requests = nil
	for _, mode := range []string{"", "default", "bridge", "host", "none", "container:x", "mine", "nope"} {
		if status, text := create(mode, nil); status != 201 {
			t.Errorf("mode %q: %d %s", mode, status, text)
		}
		if got := h.engine.body["HostConfig"].(map[string]any)["NetworkMode"]; got != mode {
			t.Errorf("mode %q became %v", mode, got)
		}
	}
}

func count[T any](seq func(func(T) bool)) (n int) {
	for range seq {
		n++
	}
	return n
}

func TestAContainerThatCannotBeMadeLeavesNoPlace(t *testing.T) {
	body := map[string]any{"Image": "web:1", "HostConfig": map[string]any{"NetworkMode": "back"}}
	for name, c := range map[string]struct {
		change func(h *host)
		status int
		want   string
	}{
		"no worker": {func(h *host) { h.node.member.networkReady = nil }, 503, "network back is not ready on this node: its worker is not there yet"},
		"not ready": {func(h *host) {
			h.node.member.gatewayReady = func(context.Context) (string, error) { return "", errdefs.ErrNotFound }
		}, 503, "network back is not ready on this node"},
		"refused by the engine": {func(h *host) {
			h.engine.refuse["POST /containers/create"] = "No such image: web:1"
		}, 404, "No such image: web:1"},
	} {
		h := newHost(t, false, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"))
		h.engine.local("abe", gatewayNetwork)
		c.change(h)
		if status, text := h.do("POST", "/containers/create", body); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s, want %d %s", name, status, text, c.status, c.want)
		}
		if n := count(h.store.View().Attachments()); n != 0 {
			t.Errorf("%s: %d places left", name, n)
		}
	}
	// Without the gateway network it would be half a container.
	h := newHost(t, false, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"))
	status, text := h.do("POST", "/containers/create", body)
	if status != 503 || !strings.Contains(text, "network abe not found") || len(h.engine.containers) != 0 {
		t.Errorf("no gateway network: %d %s, containers %v", status, text, h.engine.containers)
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	h := newHost(t, true, theCluster(), statetest.Node("n1"), sharedNetwork("backid", "back"))
	h.engine.local("abc", "mine")
	connect := network.ConnectOptions{Container: "box", EndpointConfig: &network.EndpointSettings{Aliases: []string{"db"}}}
	if status, text := h.do("POST", "/networks/back/connect", connect); status != 200 {
		t.Fatalf("connect: %d %s", status, text)
	}
	if h.engine.containers["box"] != "10.0.1.2" || count(h.store.View().Attachments()) != 1 {
		t.Errorf("containers %v, places %d", h.engine.containers, count(h.store.View().Attachments()))
	}
	if status, text := h.do("POST", "/networks/backid/connect", connect); status != 409 || !strings.Contains(text, "box is already attached to network back") {
		t.Errorf("connect again: %d %s", status, text)
	}
	half := h.engine.find("back").ID
	if status, text := h.do("POST", "/networks/backid/disconnect", network.DisconnectOptions{Container: "box"}); status != 200 || !slices.Contains(h.engine.requests, "POST /networks/"+half+"/disconnect") {
		t.Errorf("disconnect: %d %s", status, text)
	}
	if status, text := h.do("POST", "/networks/back/disconnect", network.DisconnectOptions{Container: "box"}); status != 500 || !strings.Contains(text, "container boxid is not connected to network back") {
		t.Errorf("disconnect again: %d %s", status, text)
	}
	if status, text := h.do("POST", "/networks/mine/connect", connect); status != 200 || count(h.store.View().Attachments()) != 1 {
		t.Errorf("connect to the engine's: %d %s", status, text)
	}
	if status, _ := h.do("POST", "/networks/nope/connect", connect); status != 404 {
		t.Errorf("connect to nothing: %d", status)
	}
}

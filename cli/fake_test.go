package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"shoal/cli/format"
	"shoal/internal/runspec"
)

// fakeServer answers as a manager does, from what is put into it.
type fakeServer struct {
	host string // unix://…

	mu       sync.Mutex
	services map[string]*swarm.Service
	runs     map[string]*runspec.Spec // by service id
	nodes    map[string]*swarm.Node
	tasks    []swarm.Task
	swarm    swarm.Swarm
	info     system.Info
	requests []string          // "POST /services/create"
	bodies   map[string][]byte // of the last request of each kind
	why      map[string]string
	doctor   string
	// streams may answer a call itself, nothing held.
	streams  func(w http.ResponseWriter, r *http.Request, path string) bool
	registry func(w http.ResponseWriter, r *http.Request)
	// fail answers these requests with an error.
	fail map[string]string
	// begun, if set, is what tasks are doing that a write has made, and update
	// what is said of it.
	begun  swarm.TaskState
	update *swarm.UpdateStatus
	// stale: so many updates meet a rival's.
	stale int
	query url.Values    // of the last list of tasks
	left  chan struct{} // closed by leave
	born  time.Time
}

const (
	fakeDigest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	tokenTail  = "000000000000000000000000000000000000000000000000w-000000000000000000000000w"
)

// newFakeServer needs a short path: the address of a unix socket has 107 bytes.
func newFakeServer(t testing.TB) *fakeServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "shoal-cli") //nolint:usetesting // TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := startFake(t, filepath.Join(dir, "s.sock"))
	return f
}

func startFake(t testing.TB, socket string) *fakeServer {
	t.Helper()
	f, l, err := listenFake(socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(f)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return f
}

func listenFake(socket string) (*fakeServer, net.Listener, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, nil, err
	}
	f := &fakeServer{
		left: make(chan struct{}), born: time.Now(),
		host: "unix://" + socket, services: map[string]*swarm.Service{}, runs: map[string]*runspec.Spec{}, nodes: map[string]*swarm.Node{},
		bodies: map[string][]byte{}, why: map[string]string{}, fail: map[string]string{},
	}
	f.swarm.ID = "clusterid"
	f.swarm.JoinTokens = swarm.JoinTokens{Worker: "SHMTKN-1-0" + tokenTail, Manager: "SHMTKN-1-1" + tokenTail}
	f.info.Swarm = swarm.Info{NodeID: "node1xxxxxxxxxxxxxxxxxxxxx", LocalNodeState: swarm.LocalNodeStateActive, ControlAvailable: true}
	f.addNode("node1xxxxxxxxxxxxxxxxxxxxx", "host1", &swarm.ManagerStatus{Leader: true, Reachability: swarm.ReachabilityReachable, Addr: "192.0.2.1:2377"})
	return f, l, nil
}

// serve is the daemon of the scripts: it ends when the node has left.
func (f *fakeServer) serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: f, ReadHeaderTimeout: time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
	case <-f.left:
	}
	err := srv.Shutdown(context.Background())
	<-ended
	return err
}

func (f *fakeServer) addNode(id, hostname string, m *swarm.ManagerStatus) *swarm.Node {
	n := &swarm.Node{ID: id, ManagerStatus: m}
	n.Spec.Role, n.Spec.Availability = swarm.NodeRoleWorker, swarm.NodeAvailabilityActive
	if m != nil {
		n.Spec.Role = swarm.NodeRoleManager
	}
	n.Description.Hostname = hostname
	n.Description.Engine.EngineVersion = "28.5.2"
	n.Status.State = swarm.NodeStateReady
	f.nodes[id] = n
	return n
}

func (f *fakeServer) addService(id, name string, replicas uint64) *swarm.Service {
	s := &swarm.Service{ID: id}
	s.Spec.Name = name
	s.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &replicas}
	s.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Image: "nginx:1@" + fakeDigest, Env: []string{"A=1"}}
	s.ServiceStatus = &swarm.ServiceStatus{RunningTasks: replicas, DesiredTasks: replicas}
	f.services[id] = s
	return s
}

var versionPrefix = regexp.MustCompile(`^/v1\.\d+`)

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := versionPrefix.ReplaceAllString(r.URL.Path, "")
	if f.streams != nil && f.streams(w, r, path) {
		return
	}
	body := new(bytes.Buffer)
	_, _ = body.ReadFrom(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Method + " " + path
	f.requests = append(f.requests, key)
	f.bodies[key] = body.Bytes()
	w.Header().Set("Api-Version", "1.47")
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(path, "/update") && f.stale > 0 {
		f.stale--
		refuse(w, http.StatusInternalServerError, "rpc error: code = Unknown desc = update out of sequence")
		return
	}
	if msg, ok := f.fail[key]; ok {
		refuse(w, http.StatusBadRequest, msg)
		return
	}
	switch {
	case path == "/_ping":
		fmt.Fprint(w, "OK")
	case path == "/info":
		write(w, f.info)
	case path == "/version":
		write(w, types.Version{Version: "0.1.0", APIVersion: "1.47", MinAPIVersion: "1.24", GoVersion: "go1.26", Os: "linux", Arch: "amd64"})
	case strings.HasPrefix(path, "/swarm"):
		f.serveSwarm(w, r, path)
	case strings.HasPrefix(path, "/nodes"):
		f.serveNodes(w, r, strings.Split(path, "/")[2:], body.Bytes())
	case strings.HasPrefix(path, "/services"):
		f.serveServices(w, r, strings.Split(path, "/")[2:], body.Bytes())
	case path == "/tasks":
		f.query = r.URL.Query()
		write(w, f.tasks)
	case path == "/shoal/v1/doctor":
		fmt.Fprint(w, f.doctor)
	case strings.HasPrefix(path, "/shoal/v1/services/"):
		f.serveRevisions(w, r, strings.TrimPrefix(path, "/shoal/v1/services/"))
	case strings.HasPrefix(path, "/shoal/v1/why/"):
		answer, ok := f.why[strings.TrimPrefix(path, "/shoal/v1/why/")]
		if !ok {
			refuse(w, http.StatusNotFound, "no such task or service")
			return
		}
		fmt.Fprint(w, answer)
	case strings.HasPrefix(path, "/distribution/"):
		if f.registry != nil {
			f.registry(w, r)
			return
		}
		write(w, registry.DistributionInspect{Descriptor: ocispec.Descriptor{Digest: fakeDigest}, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}})
	case strings.HasPrefix(strings.TrimPrefix(path, "/shoal/v1"), "/secrets"), strings.HasPrefix(strings.TrimPrefix(path, "/shoal/v1"), "/configs"):
		f.serveValues(w, r, strings.Split(strings.TrimPrefix(path, "/shoal/v1"), "/")[1:])
	case strings.HasPrefix(path, "/networks") && r.Method != http.MethodGet || path == "/networks":
		f.serveNetworks(w, r, path)
	case strings.HasPrefix(path, "/networks/"):
		name := strings.TrimPrefix(path, "/networks/")
		if name == "nosuch" {
			refuse(w, http.StatusNotFound, "network nosuch not found")
			return
		}
		write(w, network.Inspect{ID: "id-of-" + strings.TrimPrefix(name, "id-of-"), Name: strings.TrimPrefix(name, "id-of-")})
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

// serveRevisions answers for a service that is at revision 3.
func (f *fakeServer) serveRevisions(w http.ResponseWriter, r *http.Request, path string) {
	name, what, _ := strings.Cut(path, "/")
	if name != "web" {
		refuse(w, http.StatusNotFound, "service "+name+" not found")
		return
	}
	if what != "revisions" {
		f.query = r.URL.Query()
		if s := f.services["service1xxxxxxxxxxxxxxxxx"]; s != nil {
			f.runAll(s)
		}
		write(w, map[string]any{"UpdateStatus": swarm.UpdateStatus{State: swarm.UpdateStateRollbackStarted}})
		return
	}
	h := format.History{Name: name}
	for n := uint64(3); n > 0; n-- {
		spec := swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: fmt.Sprintf("nginx:%d", n)}}}
		h.Revisions = append(h.Revisions, format.Revision{Number: n, Current: n == 3, Previous: n == 2, Spec: spec})
	}
	write(w, h)
}

func (f *fakeServer) serveNetworks(w http.ResponseWriter, r *http.Request, path string) {
	switch {
	case path == "/networks":
		f.query = r.URL.Query()
		write(w, []network.Summary{
			{Name: "web10", ID: "network2xxxxxxxxxxxxxxxxx", Driver: "overlay", Scope: "swarm", EnableIPv4: true, Labels: map[string]string{"b": "2", "a": "1"}},
			{Name: "web2", ID: "network1xxxxxxxxxxxxxxxxx", Driver: "overlay", Scope: "swarm", EnableIPv4: true, EnableIPv6: true, Internal: true},
			{Name: "lan", ID: "0123456789abcdef0123456789abcdef", Driver: "bridge", Scope: "local", EnableIPv4: true},
		})
	case path == "/networks/create":
		w.WriteHeader(http.StatusCreated)
		write(w, network.CreateResponse{ID: "newnetworkidxxxxxxxxxxxxx"})
	case path == "/networks/prune":
		f.query = r.URL.Query()
		write(w, network.PruneReport{NetworksDeleted: []string{"idle", "old"}})
	case strings.HasSuffix(path, "/nosuch"):
		refuse(w, http.StatusNotFound, "network nosuch not found")
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (f *fakeServer) serveSwarm(w http.ResponseWriter, r *http.Request, path string) {
	switch path {
	case "/swarm/init":
		write(w, "node1xxxxxxxxxxxxxxxxxxxxx")
	case "/swarm":
		write(w, f.swarm)
	case "/swarm/leave":
		close(f.left)
	case "/swarm/update":
		if r.URL.Query().Get("rotateWorkerToken") == "true" {
			f.swarm.JoinTokens.Worker = "SHMTKN-1-2" + tokenTail
		}
	}
}

func (f *fakeServer) serveNodes(w http.ResponseWriter, r *http.Request, path []string, body []byte) {
	if len(path) == 0 {
		var all []swarm.Node
		for _, n := range f.nodes {
			all = append(all, *n)
		}
		write(w, all)
		return
	}
	n := f.nodes[path[0]]
	for _, other := range f.nodes {
		if other.Description.Hostname == path[0] {
			n = other
		}
	}
	switch {
	case n == nil:
		refuse(w, http.StatusNotFound, "node "+path[0]+" not found")
	case len(path) == 2:
		n.Spec = swarm.NodeSpec{}
		_ = json.Unmarshal(body, &n.Spec)
	case r.Method == http.MethodDelete:
		delete(f.nodes, n.ID)
	default:
		write(w, n)
	}
}

func (f *fakeServer) serveServices(w http.ResponseWriter, r *http.Request, path []string, body []byte) {
	if len(path) == 0 {
		all := []swarm.Service{}
		for _, s := range f.services {
			all = append(all, *s)
		}
		write(w, all)
		return
	}
	if path[0] == "create" {
		s := &swarm.Service{ID: "newserviceidxxxxxxxxxxxxx"}
		f.keepSpec(s, body)
		f.services[s.ID] = s
		f.runAll(s)
		w.WriteHeader(http.StatusCreated)
		write(w, swarm.ServiceCreateResponse{ID: s.ID})
		return
	}
	s := f.services[path[0]]
	for _, other := range f.services {
		if other.Spec.Name == path[0] {
			s = other
		}
	}
	switch {
	case s == nil:
		refuse(w, http.StatusNotFound, "service "+path[0]+" not found")
	case len(path) == 2:
		f.keepSpec(s, body)
		f.runAll(s)
		write(w, swarm.ServiceUpdateResponse{})
	case r.Method == http.MethodDelete:
		delete(f.services, s.ID)
	case f.runs[s.ID] == nil:
		write(w, s)
	default:
		write(w, struct {
			*swarm.Service
			Spec extendedSpec
		}{s, extendedSpec{ServiceSpec: s.Spec, Run: f.runs[s.ID]}})
	}
}

func (f *fakeServer) keepSpec(s *swarm.Service, body []byte) {
	var sent extendedSpec
	_ = json.Unmarshal(body, &sent)
	s.Spec = sent.ServiceSpec
	if sent.Run != nil {
		f.runs[s.ID] = sent.Run
	}
}

// runAll gives the service the running tasks that its spec wants; verification
// is cut short, so that tests do not wait for it.
func (f *fakeServer) runAll(s *swarm.Service) {
	if s.Spec.UpdateConfig == nil {
		s.Spec.UpdateConfig = &swarm.UpdateConfig{Monitor: time.Millisecond}
	}
	if f.update != nil {
		s.UpdateStatus = f.update
	}
	if s.Spec.Mode.Replicated == nil {
		return
	}
	if s.Spec.Mode.Replicated.Replicas == nil {
		one := uint64(1)
		s.Spec.Mode.Replicated.Replicas = &one
	}
	f.tasks = nil
	for i := range *s.Spec.Mode.Replicated.Replicas {
		f.tasks = append(f.tasks, swarm.Task{
			ID: fmt.Sprintf("task%d", i+1), ServiceID: s.ID, Slot: int(i + 1), NodeID: "node1xxxxxxxxxxxxxxxxxxxxx",
			DesiredState: swarm.TaskStateRunning, Status: swarm.TaskStatus{State: cmp.Or(f.begun, swarm.TaskStateRunning)},
		})
	}
}

func write(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func refuse(w http.ResponseWriter, status int, msg string) {
	w.WriteHeader(status)
	write(w, map[string]string{"message": msg})
}

// writes are the requests that change something.
func (f *fakeServer) writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, r := range f.requests {
		if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "HEAD ") {
			out = append(out, r)
		}
	}
	return out
}

func (f *fakeServer) body(t *testing.T, key string, into any) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := json.Unmarshal(f.bodies[key], into); err != nil {
		t.Fatalf("body of %s: %v (requests: %v)", key, err, f.requests)
	}
}

// run executes one command line against f.
func (f *fakeServer) run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return f.runContext(context.Background(), t, args...)
}

func (f *fakeServer) runContext(ctx context.Context, t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	env := func(name string) string {
		if name == "SHOAL_HOST" {
			return f.host
		}
		return ""
	}
	code = Run(ctx, Config{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &err, Version: "test", Getenv: env})
	return out.String(), err.String(), code
}

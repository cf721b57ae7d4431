package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/integration/lab"
	"shoal/internal/node"
	"shoal/worker/engine"
)

// image is what every fake engine has, and every engine of a lab.
const image = "web:1"

// patience is how long a condition may take on a machine that is busy with
// other things.
const patience = 60 * time.Second

// waitFor waits until cond holds, and ends the test with what it saw last.
func waitFor(t testing.TB, what string, cond func() (saw string, ok bool)) {
	t.Helper()
	if err := lab.WaitFor(t.Context(), patience, what, cond); err != nil {
		t.Fatal(err)
	}
}

// cluster is a set of machines in this process.
type cluster struct {
	t        testing.TB
	dir      string
	machines []*machine
}

// machine is one node with its fake engine. It can be stopped and started
// again; engine and state directory stay.
type machine struct {
	t      testing.TB
	name   string
	addr   string // without a port
	dir    string
	engine *engine.Fake
	api    *client.Client

	cancel context.CancelFunc // nil: stopped
	done   chan error
}

// newCluster starts n machines that are in no cluster yet, and ends them with
// the test.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "shoal") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir}
	t.Cleanup(func() {
		for _, m := range c.machines {
			m.stop()
			m.api.Close()
			if t.Failed() {
				t.Logf("--- end of the log of %s\n%s", m.name, m.log(3000))
			}
		}
		os.RemoveAll(dir)
	})
	network := freeNetwork(t)
	for i := range n {
		c.machines = append(c.machines, newMachine(t, dir, i+1, network))
	}
	return c
}

// freeNetwork finds a part of 127.0.0.0/8 that no other test uses.
func freeNetwork(t testing.TB) string {
	t.Helper()
	for third := range 250 {
		network := fmt.Sprintf("127.%d.%d.", 1+os.Getpid()%250, third)
		l, err := net.Listen("tcp", network+"1:2377")
		if err == nil {
			l.Close()
			return network
		}
	}
	t.Fatal("no free address below 127.0.0.0/8")
	return ""
}

func newMachine(t testing.TB, dir string, number int, network string) *machine {
	t.Helper()
	m := &machine{t: t, name: fmt.Sprintf("h%d", number), addr: fmt.Sprint(network, number), engine: engine.NewFake(image)}
	m.dir = filepath.Join(dir, m.name)
	m.engine.Description.Hostname = m.name
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	serveEngine(t, filepath.Join(m.dir, "engine.sock"), &fakeStreams{m.name, m.engine})
	var err error
	m.api, err = client.NewClientWithOpts(client.WithHost("unix://"+m.socket()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	return m
}

// serveEngine answers the little that a node asks of its engine beside what
// its worker does.
func serveEngine(t testing.TB, socket string, streams http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ApiVersion":"1.41"}`) })
	mux.HandleFunc("/info", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"Name":"fake"}`) })
	for _, list := range []string{"/networks", "/v1.41/networks", "/containers/json"} {
		mux.HandleFunc(list, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[]`) })
	}
	for _, one := range []string{"/containers/", "/v1.41/containers/", "/exec/", "/v1.41/exec/", "/events"} {
		mux.Handle(one, streams)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("fake engine: %v", err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
}

func (m *machine) socket() string { return filepath.Join(m.dir, "shoal.sock") }

func (m *machine) log(n int) string {
	b, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}

// start runs the node and waits until it answers.
func (m *machine) start() {
	m.t.Helper()
	out, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.done = cancel, make(chan error, 1)
	go func() {
		defer out.Close()
		m.done <- node.Run(ctx, node.Config{
			StateDir: filepath.Join(m.dir, "state"), Socket: m.socket(), Engine: "unix://" + filepath.Join(m.dir, "engine.sock"),
			ListenAddr: m.addr + ":2377", AdvertiseAddr: m.addr, WorkerEngine: m.engine, Version: "test",
			Log: slog.New(slog.NewTextHandler(out, nil)),
		})
	}()
	waitFor(m.t, m.name+" to answer", func() (string, bool) {
		_, err := m.api.Ping(m.t.Context())
		return fmt.Sprint(err), err == nil
	})
}

// stop ends the node and leaves its engine alone. It may be called twice.
func (m *machine) stop() {
	m.t.Helper()
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.cancel = nil
	select {
	case err := <-m.done:
		if err != nil {
			m.t.Errorf("%s: %v", m.name, err)
		}
	case <-time.After(patience):
		m.t.Errorf("%s does not end", m.name)
	}
}

// id is the node's id as the node itself says.
func (m *machine) id() string {
	m.t.Helper()
	info, err := m.api.Info(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return info.Swarm.NodeID
}

// init makes m the first manager of a cluster.
func (m *machine) init() {
	m.t.Helper()
	if _, err := m.api.SwarmInit(m.t.Context(), swarm.InitRequest{}); err != nil {
		m.t.Fatalf("init on %s: %v", m.name, err)
	}
}

// join makes m part of the cluster that via manages.
func (m *machine) join(via *machine, role swarm.NodeRole) {
	m.t.Helper()
	if err := m.tryJoin(via, via.token(role)); err != nil {
		m.t.Fatalf("join %s as %s: %v", m.name, role, err)
	}
}

func (m *machine) tryJoin(via *machine, token string) error {
	return m.api.SwarmJoin(m.t.Context(), swarm.JoinRequest{JoinToken: token, RemoteAddrs: []string{via.addr + ":2377"}})
}

func (m *machine) token(role swarm.NodeRole) string {
	m.t.Helper()
	s, err := m.api.SwarmInspect(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if role == swarm.NodeRoleManager {
		return s.JoinTokens.Manager
	}
	return s.JoinTokens.Worker
}

// form makes the machines one cluster: the first managers of them are
// managers, the others workers.
func form(t testing.TB, managers, workers int) *cluster {
	t.Helper()
	c := newCluster(t, managers+workers)
	c.machines[0].init()
	for i, m := range c.machines[1:] {
		role := swarm.NodeRoleManager
		if i+1 >= managers {
			role = swarm.NodeRoleWorker
		}
		m.join(c.machines[0], role)
	}
	c.awaitNodes(c.machines[0], managers, workers)
	return c
}

// awaitNodes waits until via sees that many managers and workers, all ready.
func (c *cluster) awaitNodes(via *machine, managers, workers int) {
	c.t.Helper()
	waitFor(c.t, fmt.Sprintf("%d managers and %d workers, seen from %s", managers, workers, via.name), func() (string, bool) {
		nodes, err := via.api.NodeList(c.t.Context(), swarm.NodeListOptions{})
		if err != nil {
			return err.Error(), false
		}
		var saw []string
		m, w, leaders := 0, 0, 0
		for _, n := range nodes {
			saw = append(saw, describeNode(n))
			switch {
			case n.Status.State != swarm.NodeStateReady:
			case n.ManagerStatus == nil:
				w++
			case n.ManagerStatus.Reachability == swarm.ReachabilityReachable:
				m++
				if n.ManagerStatus.Leader {
					leaders++
				}
			}
		}
		return strings.Join(saw, "; "), m == managers && w == workers && leaders == 1 && len(nodes) == managers+workers
	})
}

func describeNode(n swarm.Node) string {
	manager := "worker"
	if s := n.ManagerStatus; s != nil {
		manager = fmt.Sprintf("%s leader=%v", s.Reachability, s.Leader)
	}
	return fmt.Sprintf("%s %s %s %s %s", n.Description.Hostname, n.Spec.Role, n.Spec.Availability, n.Status.State, manager)
}

// leader is the machine that leads, as via sees it.
func (c *cluster) leader(via *machine) *machine {
	c.t.Helper()
	nodes, err := via.api.NodeList(c.t.Context(), swarm.NodeListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range nodes {
		if n.ManagerStatus != nil && n.ManagerStatus.Leader {
			return c.byAddr(n.ManagerStatus.Addr)
		}
	}
	c.t.Fatal("there is no leader")
	return nil
}

func (c *cluster) byAddr(addr string) *machine {
	c.t.Helper()
	for _, m := range c.machines {
		if m.addr+":2377" == addr {
			return m
		}
	}
	c.t.Fatalf("no machine has the address %s", addr)
	return nil
}

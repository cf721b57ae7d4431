package dispatcher_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/pki"
	"shoal/internal/taskstate"
	"shoal/manager/dispatcher"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
	"shoal/worker/session"
)

// credential returns a certificate of a cluster with this root.
func credential(t *testing.T, root *pki.Root, nodeID string, role pki.Role) *pki.Credential {
	t.Helper()
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, pki.Identity{NodeID: nodeID, Role: role, ClusterID: "c1"}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewCredential(t.TempDir(), key, cert, root.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serveTLS runs a dispatcher, which leads, behind real mutual TLS.
func serveTLS(t *testing.T, root *pki.Root, store *statetest.Store) (addr string) {
	t.Helper()
	d, err := dispatcher.New(dispatcher.Config{
		NodeID: "m1", Store: store, Log: testLog(t),
		Identity: func(r *http.Request) (string, string, bool) {
			if r.TLS == nil {
				return "", "", false
			}
			id, err := pki.PeerIdentity(*r.TLS)
			return id.NodeID, string(id.Role), err == nil
		},
		Forward: func(context.Context, dispatcher.Batch) (dispatcher.Answer, error) {
			return dispatcher.Answer{}, context.Canceled
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: d, ReadTimeout: 500 * time.Millisecond, WriteTimeout: 500 * time.Millisecond}
	run(t, func(ctx context.Context) { _ = d.Serve(ctx) })
	run(t, func(ctx context.Context) { _ = d.Run(ctx) })
	run(t, func(ctx context.Context) {
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		config := pki.ServerTLS(pki.Server{Credential: credential(t, root, "m1", pki.RoleManager), Protocols: []string{"h2", "http/1.1"}})
		_ = server.Serve(tls.NewListener(listener, config))
	})
	return listener.Addr().String()
}

// run runs f until the test ends and waits for it.
func run(t *testing.T, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestSessionOverMutualTLS(t *testing.T) {
	root, err := pki.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	service, revision := statetest.Service("web", 1)
	store := statetest.New(service, revision, statetest.Node("n1", unheard), task("a", "n1"))
	addr := serveTLS(t, root, store)
	worker := credential(t, root, "n1", pki.RoleWorker)
	lines := make(chan assignment.Down, 10)
	s, err := session.New(session.Config{
		NodeID: "n1", Boot: "b1", Addr: ":2377", Log: testLog(t),
		Managers: func() []assignment.Manager { return []assignment.Manager{{NodeID: "m1", Addr: addr}} },
		TLS: func() (*tls.Config, error) {
			return pki.ClientTLS(pki.Client{Credential: worker, Protocols: []string{"h2"}, Roles: []pki.Role{pki.RoleManager}}), nil
		},
		Describe: func(context.Context) (swarm.NodeDescription, error) { return swarm.NodeDescription{}, nil },
		Held:     func() (uint64, []string) { return 0, nil },
		Apply:    func(d assignment.Down) error { lines <- d; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) { _ = s.Run(ctx) })
	if first := <-lines; !first.Full || len(first.Tasks) != 1 || first.Tasks[0].ID != "a" {
		t.Errorf("first line %+v", first)
	}
	changed := store.Changed()
	s.Report("a", taskstate.Status{State: taskstate.Running})
	<-changed
	if got := store.View().Task("a").Status.State; got != taskstate.Running {
		t.Errorf("task a is %v", got)
	}
	<-time.After(time.Second) // until the server's timeouts, which are for short requests, have passed
	store.Put(task("b", "n1"))
	next := <-lines
	for len(next.Tasks) == 0 { // lines that only say how far the state is
		next = <-lines
	}
	if next.Tasks[0].ID != "b" {
		t.Errorf("next line %+v", next)
	}
}

func TestSessionRefusesWhoeverMayNotHaveOne(t *testing.T) {
	root, err := pki.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	addr := serveTLS(t, root, statetest.New(statetest.Node("n1", unheard)))
	hello := `{"hello":{"version":1,"boot":"b","description":{},"index":0}}` + "\n"
	tests := []struct {
		name, method, node, protocol, body string
		role                               pki.Role
		status                             int
		says                               string
	}{
		{"a user", "POST", "n1", "h2", hello, pki.RoleClient, 403, "certificate of a node"},
		{"a stranger", "POST", "n7", "h2", hello, pki.RoleWorker, 403, "node n7 was removed"},
		{"GET", "GET", "n1", "h2", "", pki.RoleWorker, 405, "POST"},
		{"HTTP/1", "POST", "n1", "http/1.1", hello, pki.RoleWorker, 505, "HTTP/2"},
		{"no hello", "POST", "n1", "h2", "{}\n", pki.RoleWorker, 400, "not a hello"},
		{"nothing", "POST", "n1", "h2", "", pki.RoleWorker, 400, "no hello"},
		{"nonsense", "POST", "n1", "h2", "hello?\n", pki.RoleWorker, 400, "hello"},
		{"no boot", "POST", "n1", "h2", strings.Replace(hello, `"b"`, `""`, 1), pki.RoleWorker, 400, "boot"},
		{"later version", "POST", "n1", "h2", strings.Replace(hello, ":1,", ":9,", 1), pki.RoleWorker, 400, "version 9"},
		{"unknown state", "POST", "n1", "h2", `{"statuses":[{"status":{"state":"flying"}}]}` + "\n", pki.RoleWorker, 400, "flying"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := pki.ClientTLS(pki.Client{Credential: credential(t, root, tt.node, tt.role), Protocols: []string{tt.protocol}})
			transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: tt.protocol == "h2"}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+addr+assignment.Path, bytes.NewBufferString(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || !strings.Contains(string(text), tt.says) {
				t.Errorf("status %d %q, want %d with %q", resp.StatusCode, text, tt.status, tt.says)
			}
		})
	}
}

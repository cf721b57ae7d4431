package ca

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/goleak"

	"shoal/internal/pki"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func post(handler http.Handler, body []byte) (*httptest.ResponseRecorder, pki.Refusal) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.RemoteAddr = "10.0.0.7:5555"
	handler.ServeHTTP(w, r)
	var refusal pki.Refusal
	_ = json.Unmarshal(w.Body.Bytes(), &refusal)
	return w, refusal
}

func TestJoinHandlerRefusesBadBodies(t *testing.T) {
	f := newFixture(t)
	large, err := json.Marshal(pki.JoinRequest{Hostname: strings.Repeat("x", maxBody)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		body   string
		status int
		want   string
	}{
		{"empty", "", 400, "body is not valid JSON"},
		{"junk", "{", 400, "body is not valid JSON"},
		{"wrong type", `{"addr":1}`, 400, "addr"},
		{"no base 64", `{"csr":"%"}`, 400, "body is not valid JSON"},
		{"too large", string(large), 413, "body is over 65536 bytes"},
		{"no token", "{}", 400, "A valid join token is necessary to join this cluster"},
	} {
		w, refusal := post(f.JoinHandler(), []byte(c.body))
		if w.Code != c.status || !strings.Contains(refusal.Message, c.want) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, w.Code, w.Body, c.status, c.want)
		}
	}
	w := httptest.NewRecorder()
	f.JoinHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestJoinHandlerSendsToTheLeader(t *testing.T) {
	f := newFixture(t)
	f.store.Fail(fmt.Errorf("not the leader: %w", errdefs.ErrUnavailable))
	r := request(t)
	r.Token = f.tokens(t).Worker
	body, _ := json.Marshal(r)
	for leader, status := range map[string]int{"": 503, "10.0.0.1:2377": 421} {
		f.leader = func() string { return leader }
		if w, refusal := post(f.JoinHandler(), body); w.Code != status || refusal.Leader != leader {
			t.Errorf("leader %q: %d %s, want %d", leader, w.Code, w.Body, status)
		}
	}
}

func TestJoinHandlerLimitsGuesses(t *testing.T) {
	f := newFixture(t)
	body, _ := json.Marshal(pki.JoinRequest{Token: "x"})
	for i := range 8 {
		want := http.StatusBadRequest
		if i >= guessesPerAddr {
			want = http.StatusTooManyRequests
		}
		if w, _ := post(f.JoinHandler(), body); w.Code != want {
			t.Errorf("guess %d: %d, want %d", i+1, w.Code, want)
		}
	}
}

func TestRenewHandlerWantsACertificate(t *testing.T) {
	f := newFixture(t)
	if w, _ := post(f.RenewHandler(), []byte("{}")); w.Code != http.StatusUnauthorized {
		t.Errorf("plain: %d", w.Code)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	r.TLS = &tls.ConnectionState{}
	f.RenewHandler().ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("TLS without a certificate: %d", w.Code)
	}
}

// door is a manager's listener with what this package puts behind it: joins
// for those without a certificate, renewal for the others.
func door(t *testing.T, f *fixture, credential *pki.Credential) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := pki.ServerTLS(pki.Server{
		Credential: credential, Protocols: []string{"h2", pki.JoinProtocol}, Anonymous: []string{pki.JoinProtocol},
		Allow: func(peer pki.Identity, _ string) error {
			if f.store.View().Node(peer.NodeID) == nil {
				return errdefs.ErrPermissionDenied.WithMessage("node was removed")
			}
			return nil
		},
	})
	mux := http.NewServeMux()
	mux.Handle(pki.RenewPath, f.RenewHandler())
	joins := http.NewServeMux()
	joins.Handle(pki.JoinPath, f.JoinHandler())
	server := &http.Server{
		Handler: mux, TLSConfig: config,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		pki.JoinProtocol: func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
			one := &oneConn{conn: struct{ net.Conn }{conn}, done: make(chan struct{})}
			inner := &http.Server{Handler: joins, ConnState: func(_ net.Conn, s http.ConnState) {
				if s == http.StateClosed {
					close(one.done)
				}
			}}
			_ = inner.Serve(one)
		},
	}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return listener.Addr().String()
}

// oneConn is a listener that has one connection to give and then waits for it
// to be closed.
type oneConn struct {
	conn  net.Conn
	given bool
	done  chan struct{}
}

func (o *oneConn) Accept() (net.Conn, error) {
	if !o.given {
		o.given = true
		return o.conn, nil
	}
	<-o.done
	return nil, net.ErrClosed
}
func (o *oneConn) Close() error   { return nil }
func (o *oneConn) Addr() net.Addr { return o.conn.LocalAddr() }

// The whole way of a node over the network: join, promotion, renewal, removal.
func TestNodeJoinsRenewsAndIsCutOff(t *testing.T) {
	others := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, others) }) // after the door is shut
	f := newFixture(t)
	keyPEM, csr, _ := pki.NewKeyAndCSR()
	first, certPEM, err := FirstNode(f.cluster, pki.JoinRequest{CSR: csr, Addr: "10.0.0.1:2377", GossipAddr: "10.0.0.1:7946", Hostname: "m"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f.store.Put(first)
	manager, err := pki.NewCredential(t.TempDir(), keyPEM, certPEM, f.cluster.RootCert)
	if err != nil {
		t.Fatal(err)
	}
	addr := door(t, f, manager)

	token, err := pki.ParseToken(f.tokens(t).Worker)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, csr, _ = pki.NewKeyAndCSR()
	joined, err := pki.FetchJoin(t.Context(), addr, token, pki.JoinRequest{CSR: csr, Addr: ":2377", GossipAddr: ":7946", Hostname: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if joined.Addr != "127.0.0.1:2377" {
		t.Errorf("addr %s, want the one the manager saw", joined.Addr)
	}
	worker, err := pki.NewCredential(t.TempDir(), keyPEM, joined.Certificate, joined.RootCert)
	if err != nil {
		t.Fatal(err)
	}

	node := *f.store.View().Node(joined.NodeID)
	node.Spec.Role = swarm.NodeRoleManager
	f.store.Put(&node)
	keyPEM, csr, _ = pki.NewKeyAndCSR()
	renewed, err := pki.FetchRenew(t.Context(), worker, addr, csr)
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Replace(keyPEM, renewed.Certificate); err != nil || worker.Identity().Role != pki.RoleManager {
		t.Errorf("after promotion: %v, %v", worker.Identity(), err)
	}

	f.store.Apply(state.Delete(state.KindNode, joined.NodeID))
	if _, err := pki.FetchRenew(t.Context(), worker, addr, csr); err == nil {
		t.Error("a removed node renewed its certificate")
	}
	if err := f.RotateTokens(t.Context(), pki.RoleWorker); err != nil {
		t.Fatal(err)
	}
	_, err = pki.FetchJoin(t.Context(), addr, token, pki.JoinRequest{CSR: csr, Addr: ":2377", GossipAddr: ":7946", Hostname: "w"})
	if !errors.Is(err, pki.ErrTokenRefused) {
		t.Errorf("old token: err %v", err)
	}
}

func BenchmarkJoin(b *testing.B) {
	cluster, err := NewCluster(Founding{}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(Config{Store: statetest.New(cluster)})
	if err != nil {
		b.Fatal(err)
	}
	tokens, err := Tokens(statetest.View(cluster))
	if err != nil {
		b.Fatal(err)
	}
	_, csr, _ := pki.NewKeyAndCSR()
	r := pki.JoinRequest{Token: tokens.Worker, CSR: csr, Addr: "10.0.0.2:2377", GossipAddr: "10.0.0.2:7946", Hostname: "w"}
	for b.Loop() {
		if _, err := c.Join(b.Context(), r, somewhere(2)); err != nil {
			b.Fatal(err)
		}
	}
}

package pki

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// hidden keeps net/http from refusing a protocol that it does not know.
type hidden struct{ net.Listener }

func (h hidden) Accept() (net.Conn, error) {
	conn, err := h.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

// serveJoin is a join door on loopback with the given handler behind it.
func serveJoin(t *testing.T, c *Credential, protocols []string, handler http.HandlerFunc) string {
	t.Helper()
	config := ServerTLS(Server{Credential: c, Protocols: protocols, Anonymous: []string{JoinProtocol}})
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = hidden{listener}
	server.Start()
	t.Cleanup(server.Close)
	return listener.Addr().String()
}

// letIn answers a join as a manager would.
func letIn(t *testing.T, root *Root, identity Identity) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request JoinRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || r.URL.Path != JoinPath {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		certPEM, err := root.Sign(request.CSR, identity, DefaultValidity, time.Now())
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(JoinResponse{
			NodeID: identity.NodeID, ClusterID: identity.ClusterID, Role: identity.Role,
			Certificate: certPEM, RootCert: root.CertPEM,
		})
	}
}

func refuse(status int, r Refusal) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(r)
	}
}

func joinRequest(t *testing.T) JoinRequest {
	t.Helper()
	_, csr, err := NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	return JoinRequest{CSR: csr, Addr: ":2377", GossipAddr: ":7946"}
}

func TestFetchJoinGetsACertificate(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	addr := serveJoin(t, newCredential(t, root, manager), []string{"h2", JoinProtocol}, letIn(t, root, worker))
	got, err := FetchJoin(t.Context(), addr, token, joinRequest(t))
	if err != nil || got.NodeID != "w1" || got.Role != RoleWorker {
		t.Errorf("FetchJoin = %+v, %v", got, err)
	}
}

func TestFetchJoinSendsTheTokenToNobodyElse(t *testing.T) {
	root, foreign := newRoot(t), newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	foreignKey, foreignCert := issue(t, foreign, manager, time.Now())
	forged, err := NewCredential("", foreignKey, foreignCert, foreign.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	// Shows the true root behind a certificate that this root never signed.
	forged.held.tls.Certificate[1] = root.Cert.Raw
	for _, c := range []struct {
		name   string
		server *Credential
		want   string
	}{
		{"another cluster", newCredential(t, foreign, manager), "remote CA does not match fingerprint"},
		{"borrowed root", forged, "unknown authority"},
		{"worker", newCredential(t, root, worker), "cannot let nodes in"},
		{"expired manager", newCredentialAt(t, root, manager, "", time.Now().Add(-100*24*time.Hour)), "is after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := serveJoin(t, c.server, []string{JoinProtocol}, func(http.ResponseWriter, *http.Request) {
				t.Error("the request, token and all, was sent")
			})
			_, err := FetchJoin(t.Context(), addr, token, joinRequest(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err %v, want %q", err, c.want)
			}
		})
	}
	t.Run("no join door", func(t *testing.T) {
		addr := serveJoin(t, newCredential(t, root, manager), []string{"h2"}, nil)
		if _, err := FetchJoin(t.Context(), addr, token, joinRequest(t)); err == nil {
			t.Error("joined through a door for certificates")
		}
	})
}

func TestFetchJoinWrongRootIsItsOwnError(t *testing.T) {
	token, _ := newRoot(t).Token(RoleWorker, 1)
	addr := serveJoin(t, newCredential(t, newRoot(t), manager), []string{JoinProtocol}, nil)
	if _, err := FetchJoin(t.Context(), addr, token, joinRequest(t)); !errors.Is(err, ErrWrongRoot) {
		t.Errorf("err %v, want ErrWrongRoot", err)
	}
}

func TestFetchJoinFollowsToTheLeader(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	leader := serveJoin(t, newCredential(t, root, manager), []string{JoinProtocol}, letIn(t, root, worker))
	follower := serveJoin(t, newCredential(t, root, manager), []string{JoinProtocol},
		refuse(http.StatusMisdirectedRequest, Refusal{Message: "not the leader", Leader: leader}))
	got, err := FetchJoin(t.Context(), follower, token, joinRequest(t))
	if err != nil || got.NodeID != "w1" {
		t.Errorf("FetchJoin = %+v, %v", got, err)
	}
}

func TestFetchJoinWaitsForALeader(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	var tries atomic.Int32
	addr := serveJoin(t, newCredential(t, root, manager), []string{JoinProtocol}, func(w http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1: // names a leader that is gone
			refuse(http.StatusMisdirectedRequest, Refusal{Message: "not the leader", Leader: "127.0.0.1:1"})(w, r)
		case 2:
			refuse(http.StatusServiceUnavailable, Refusal{Message: "no leader"})(w, r)
		default:
			letIn(t, root, worker)(w, r)
		}
	})
	if _, err := FetchJoin(t.Context(), addr, token, joinRequest(t)); err != nil || tries.Load() != 3 {
		t.Errorf("err %v after %d tries, want none after 3", err, tries.Load())
	}
}

func TestFetchJoinGivesUpWithContext(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	ctx, cancel := context.WithCancel(t.Context())
	addr := serveJoin(t, newCredential(t, root, manager), []string{JoinProtocol}, func(w http.ResponseWriter, r *http.Request) {
		refuse(http.StatusServiceUnavailable, Refusal{Message: "no leader"})(w, r)
		cancel()
	})
	if _, err := FetchJoin(ctx, addr, token, joinRequest(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("err %v, want canceled", err)
	}
}

func TestFetchJoinRefusalsKeepKindAndText(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	credential := newCredential(t, root, manager)
	for status, is := range map[int]func(error) bool{
		http.StatusBadRequest:            errdefs.IsInvalidArgument,
		http.StatusForbidden:             errdefs.IsPermissionDenied,
		http.StatusTooManyRequests:       errdefs.IsResourceExhausted,
		http.StatusRequestEntityTooLarge: errdefs.IsInvalidArgument,
		http.StatusInternalServerError:   errdefs.IsUnknown,
	} {
		addr := serveJoin(t, credential, []string{JoinProtocol}, refuse(status, Refusal{Message: "because of x"}))
		_, err := FetchJoin(t.Context(), addr, token, joinRequest(t))
		if !is(err) || !strings.HasSuffix(err.Error(), "because of x") {
			t.Errorf("%d: err %v", status, err)
		}
	}
	addr := serveJoin(t, credential, []string{JoinProtocol}, refuse(http.StatusBadRequest, Refusal{Message: ErrTokenRefused.Error()}))
	if _, err := FetchJoin(t.Context(), addr, token, joinRequest(t)); !errors.Is(err, ErrTokenRefused) {
		t.Errorf("err %v, want ErrTokenRefused", err)
	}
}

func TestFetchJoinDistrustsABadAnswer(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	credential := newCredential(t, root, manager)
	_, good := issue(t, root, worker, time.Now())
	_, foreign := issue(t, newRoot(t), worker, time.Now())
	fine := JoinResponse{NodeID: "w1", ClusterID: "c1", Role: RoleWorker, Certificate: good, RootCert: root.CertPEM}
	for name, spoil := range map[string]func(*JoinResponse){
		"no root":             func(r *JoinResponse) { r.RootCert = nil },
		"another root":        func(r *JoinResponse) { r.RootCert = newRoot(t).CertPEM },
		"no certificate":      func(r *JoinResponse) { r.Certificate = nil },
		"foreign certificate": func(r *JoinResponse) { r.Certificate = foreign },
		"another role":        func(r *JoinResponse) { r.Role = RoleManager },
		"another node":        func(r *JoinResponse) { r.NodeID = "w2" },
		"another cluster":     func(r *JoinResponse) { r.ClusterID = "c2" },
	} {
		answer := fine
		spoil(&answer)
		addr := serveJoin(t, credential, []string{JoinProtocol}, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(answer)
		})
		if _, err := FetchJoin(t.Context(), addr, token, joinRequest(t)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFetchJoinBoundsTheAnswer(t *testing.T) {
	root := newRoot(t)
	token, _ := root.Token(RoleWorker, 1)
	addr := serveJoin(t, newCredential(t, root, manager), []string{JoinProtocol}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, maxAnswer+2))
	})
	if _, err := FetchJoin(t.Context(), addr, token, joinRequest(t)); !errdefs.IsOutOfRange(err) {
		t.Errorf("err %v, want out of range", err)
	}
}

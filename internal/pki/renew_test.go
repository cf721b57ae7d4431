package pki

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
)

// authority answers renewals inside a bubble.
type authority struct {
	root *Root
	mu   sync.Mutex
	role Role
	err  error
	at   []time.Time // of each question
}

func (a *authority) fetch(_ context.Context, c *Credential, _ string, csr []byte) (*RenewResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
	if a.err != nil {
		return nil, a.err
	}
	identity := c.Identity()
	identity.Role = a.role
	certPEM, err := a.root.Sign(csr, identity, DefaultValidity, time.Now())
	return &RenewResponse{Role: a.role, Certificate: certPEM}, err
}

func (a *authority) set(role Role, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.role, a.err = role, err
}

func (a *authority) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// inBubble runs a renewer for a worker against an authority until test ends.
func inBubble(t *testing.T, test func(t *testing.T, a *authority, r *Renewer, c *Credential)) {
	synctest.Test(t, func(t *testing.T) {
		a := &authority{root: newRoot(t), role: RoleWorker}
		c := newCredential(t, a.root, worker)
		r, err := NewRenewer(RenewerConfig{
			Credential: c, Fetch: a.fetch, Log: slog.New(slog.DiscardHandler),
			Managers:   func() []Manager { return []Manager{{NodeID: "m1", Addr: "m1:2377"}} },
			Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		test(t, a, r, c)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want canceled", err)
		}
	})
}

func TestRenewerRenewsBetweenHalfAndFourFifths(t *testing.T) {
	for range 20 {
		inBubble(t, func(t *testing.T, a *authority, _ *Renewer, c *Credential) {
			leaf, changed := c.Leaf(), c.Changed()
			<-changed
			life := leaf.NotAfter.Sub(leaf.NotBefore)
			part := float64(time.Since(leaf.NotBefore)) / float64(life)
			if part < 0.5 || part > 0.801 {
				t.Errorf("renewed at %.0f%% of life", 100*part)
			}
			if c.Leaf().SerialNumber.Cmp(leaf.SerialNumber) == 0 || c.Leaf().PublicKeyAlgorithm != leaf.PublicKeyAlgorithm {
				t.Error("not a new certificate")
			}
			synctest.Wait()
			if a.asked() != 1 {
				t.Errorf("asked %d times", a.asked())
			}
		})
	}
}

func TestRenewerTakesANewRoleAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, a *authority, r *Renewer, c *Credential) {
		start := time.Now()
		a.set(RoleManager, nil)
		changed := c.Changed()
		r.SetRole(RoleManager)
		<-changed
		if waited := time.Since(start); waited > time.Second || c.Identity().Role != RoleManager {
			t.Errorf("role %s after %s", c.Identity().Role, waited)
		}
	})
}

func TestRenewerAsksUntilTheRoleIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T, a *authority, r *Renewer, c *Credential) {
		r.SetRole(RoleManager)
		time.Sleep(3 * time.Second) // this manager has not heard of the promotion yet
		if c.Identity().Role != RoleWorker || a.asked() < 2 {
			t.Fatalf("role %s after %d questions", c.Identity().Role, a.asked())
		}
		a.set(RoleManager, nil)
		time.Sleep(10 * time.Second)
		if c.Identity().Role != RoleManager {
			t.Error("still a worker")
		}
		asked := a.asked()
		r.SetRole(RoleManager)
		time.Sleep(time.Hour)
		if a.asked() != asked {
			t.Errorf("asked %d times more for a role that it has", a.asked()-asked)
		}
	})
}

func TestRenewerForgetsAWithdrawnRole(t *testing.T) {
	inBubble(t, func(t *testing.T, a *authority, r *Renewer, _ *Credential) {
		r.SetRole(RoleManager) // and nobody ever grants it
		time.Sleep(24 * time.Hour)
		if a.asked() != maxMisses {
			t.Errorf("asked %d times, want %d", a.asked(), maxMisses)
		}
	})
}

func TestRenewerBacksOffWhileNobodyAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, a *authority, r *Renewer, c *Credential) {
		a.set(RoleManager, errdefs.ErrUnavailable)
		for range 3000 { // a session repeats itself; that must not turn into a flood
			r.SetRole(RoleManager)
			time.Sleep(time.Second)
		}
		if n := a.asked(); n < 50 || n > 130 {
			t.Errorf("asked %d times in 50 minutes", n)
		}
		a.set(RoleManager, nil)
		time.Sleep(time.Minute)
		if c.Identity().Role != RoleManager {
			t.Error("did not renew once a manager answered")
		}
	})
}

func TestRenewerWithoutManagersWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCredential(t, newRoot(t), worker)
		r, err := NewRenewer(RenewerConfig{Credential: c, Managers: func() []Manager { return nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r.SetRole(RoleManager)
		if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestNewRenewerRefusesAnEmptyConfig(t *testing.T) {
	if _, err := NewRenewer(RenewerConfig{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("err %v, want invalid argument", err)
	}
}

func TestFetchRenewSpeaksHTTP2WithBothCertificates(t *testing.T) {
	root := newRoot(t)
	c := newCredential(t, root, worker)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := PeerIdentity(*r.TLS)
		if err != nil || peer != worker || r.ProtoMajor != 2 || r.URL.Path != RenewPath {
			t.Errorf("peer %v, %v, %s %s", peer, err, r.Proto, r.URL)
		}
		var request RenewRequest
		_ = json.NewDecoder(r.Body).Decode(&request)
		certPEM, err := root.Sign(request.CSR, peer, DefaultValidity, time.Now())
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(RenewResponse{Role: peer.Role, Certificate: certPEM})
	})
	server := &http.Server{
		Handler:   handler,
		TLSConfig: ServerTLS(Server{Credential: newCredential(t, root, manager), Protocols: []string{"h2"}}),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	defer func() {
		server.Close()
		<-served
	}()
	keyPEM, csr, _ := NewKeyAndCSR()
	got, err := FetchRenew(t.Context(), c, listener.Addr().String(), csr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Replace(keyPEM, got.Certificate); err != nil {
		t.Error(err)
	}
}

package pki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/backoff"
)

const (
	// maxSleep bounds one wait of the renewer: timers stand still while a
	// machine sleeps, and clocks jump.
	maxSleep = time.Hour
	// maxMisses renewals without the wanted role take about two minutes; then
	// the wish was withdrawn before it was granted.
	maxMisses = 8
	// renewTimeout is for one question to one manager.
	renewTimeout = 10 * time.Second
)

// FetchRenew asks the manager at addr for a new certificate for key csrPEM.
func FetchRenew(ctx context.Context, c *Credential, addr string, csrPEM []byte) (*RenewResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	transport := &http.Transport{
		TLSClientConfig:   ClientTLS(Client{Credential: c, Protocols: []string{"h2"}, Roles: []Role{RoleManager}}),
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	return post[RenewResponse](ctx, &http.Client{Transport: transport}, "https://"+addr+RenewPath, RenewRequest{CSR: csrPEM})
}

// RenewerConfig is what a Renewer needs.
type RenewerConfig struct {
	Credential *Credential      // required
	Managers   func() []Manager // required: whom to ask now, best first
	Log        *slog.Logger     // slog.Default()
	Registerer prometheus.Registerer
	// Fetch asks one manager; nil: FetchRenew.
	Fetch func(ctx context.Context, c *Credential, addr string, csrPEM []byte) (*RenewResponse, error)
}

// Renewer keeps a node's certificate fresh and its role true.
type Renewer struct {
	config   RenewerConfig
	failures prometheus.Counter

	mu     sync.Mutex
	wanted Role // told by a manager; empty: whatever the certificate says
	misses int  // renewals that did not bring the wanted role
	poke   chan struct{}
}

// NewRenewer makes a Renewer.
func NewRenewer(config RenewerConfig) (*Renewer, error) {
	if config.Credential == nil || config.Managers == nil {
		return nil, fmt.Errorf("renewer without credential or managers: %w", errdefs.ErrInvalidArgument)
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Fetch == nil {
		config.Fetch = FetchRenew
	}
	r := &Renewer{config: config, poke: make(chan struct{}, 1)}
	return r, r.register()
}

func (r *Renewer) register() error {
	r.failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "shoal_pki_renew_failures_total", Help: "Rounds in which no manager renewed this node's certificate.",
	})
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shoal_pki_certificate_expiry_seconds", Help: "When this node's certificate expires, in Unix time.",
	}, func() float64 { return float64(r.config.Credential.Leaf().NotAfter.Unix()) })
	if r.config.Registerer == nil {
		return nil
	}
	return errors.Join(r.config.Registerer.Register(r.failures), r.config.Registerer.Register(expiry))
}

// SetRole says which role the managers want this node to have. If it is not
// the certificate's, Run renews at once and until it is.
func (r *Renewer) SetRole(role Role) {
	r.mu.Lock()
	same := r.wanted == role
	r.wanted, r.misses = role, 0
	r.mu.Unlock()
	if same {
		return // being told often must not shorten the pauses between tries
	}
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

func (r *Renewer) roleDiffers() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted != "" && r.wanted != r.config.Credential.Identity().Role
}

// missed counts a renewal that did not bring the wanted role.
func (r *Renewer) missed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.misses++; r.misses >= maxMisses {
		r.wanted, r.misses = "", 0
	}
}

// Run renews until ctx ends: at a random point in 50 to 80 % of each
// certificate's life, or when the role differs.
func (r *Renewer) Run(ctx context.Context) error {
	// 500ms: a promotion waits for this; 1m: managers may be away for days.
	pause := backoff.Backoff{Min: 500 * time.Millisecond, Max: time.Minute}
	at := renewAt(r.config.Credential)
	for {
		wait := min(time.Until(at), maxSleep)
		if wait <= 0 || r.roleDiffers() {
			if err := r.renew(ctx); err == nil {
				at = renewAt(r.config.Credential)
			} else if ctx.Err() == nil {
				r.failures.Inc()
				r.config.Log.Warn("certificate not renewed", "expires", r.config.Credential.Leaf().NotAfter, "error", err)
			}
			if time.Now().Before(at) && !r.roleDiffers() {
				pause.Reset()
				continue
			}
			wait = pause.Next()
		}
		if err := r.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (r *Renewer) sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.poke:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// renewAt draws the moment of renewal, so that nodes which joined together do
// not renew together.
func renewAt(c *Credential) time.Time {
	leaf := c.Leaf()
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(life/2 + rand.N(life*3/10))
}

// renew asks the managers in turn, with a fresh key.
func (r *Renewer) renew(ctx context.Context) error {
	keyPEM, csrPEM, err := NewKeyAndCSR()
	if err != nil {
		return err
	}
	failed := fmt.Errorf("no manager known: %w", errdefs.ErrUnavailable)
	for _, manager := range r.config.Managers() {
		answer, err := r.config.Fetch(ctx, r.config.Credential, manager.Addr, csrPEM)
		if err == nil {
			if err = r.config.Credential.Replace(keyPEM, answer.Certificate); err == nil {
				r.config.Log.Info("certificate renewed", "role", answer.Role, "expires", r.config.Credential.Leaf().NotAfter)
				if r.roleDiffers() {
					r.missed()
				}
				return nil
			}
		}
		failed = fmt.Errorf("manager %s: %w", manager.NodeID, err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}

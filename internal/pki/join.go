package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/backoff"
)

// maxHops is how often a join follows a manager's word to the leader before
// it starts again at the address the user gave.
const maxHops = 3

// FetchJoin asks the manager at addr to let this node in. The token is sent
// only to a manager that shows the root certificate named in it. A manager
// without a leader at the moment is asked again until ctx ends; one that is
// not the leader may name it.
func FetchJoin(ctx context.Context, addr string, token Token, request JoinRequest) (*JoinResponse, error) {
	request.Token = token.Text()
	// 200ms: an election takes a second; 2s: the user is watching.
	pause := backoff.Backoff{Min: 200 * time.Millisecond, Max: 2 * time.Second}
	target, hops := addr, 0
	for {
		response, err := joinOnce(ctx, target, token, request)
		if err == nil {
			return response, nil
		}
		if target == addr && !errdefs.IsUnavailable(err) || terminal(err) {
			return nil, fmt.Errorf("join through %s: %w", target, err)
		}
		var elsewhere *misdirected
		if errors.As(err, &elsewhere) && elsewhere.leader != "" && hops < maxHops {
			target, hops = elsewhere.leader, hops+1
			continue
		}
		target, hops = addr, 0
		if wait := pause.Wait(ctx); wait != nil {
			if elsewhere != nil {
				return nil, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("join through %s: its cluster has no leader that answers: more than half of the managers must be online", addr))
			}
			return nil, fmt.Errorf("join through %s: %w: %w", addr, err, wait)
		}
	}
}

// terminal reports whether asking again, here or elsewhere, is pointless.
func terminal(err error) bool {
	return errdefs.IsInvalidArgument(err) || errdefs.IsPermissionDenied(err) || errdefs.IsResourceExhausted(err)
}

func joinOnce(ctx context.Context, addr string, token Token, request JoinRequest) (*JoinResponse, error) {
	conn, err := dialJoin(ctx, addr, token)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return conn, nil
		},
	}
	defer transport.CloseIdleConnections()
	defer conn.Close()
	response, err := post[JoinResponse](ctx, &http.Client{Transport: transport}, "https://"+addr+JoinPath, request)
	if err != nil {
		return nil, err
	}
	return response, checkJoin(response, token)
}

// dialJoin connects to a join door and compares the root that it shows with
// the token.
func dialJoin(ctx context.Context, addr string, token Token) (net.Conn, error) {
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{JoinProtocol},
		InsecureSkipVerify: true, // there is no root to trust yet: the token's digest decides
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyJoin(cs, token) },
	}}
	return dialer.DialContext(ctx, "tcp", addr)
}

// verifyJoin accepts a manager whose certificate comes from the root that the
// token names.
func verifyJoin(cs tls.ConnectionState, token Token) error {
	if cs.NegotiatedProtocol != JoinProtocol {
		return fmt.Errorf("peer is no shoal manager: it does not speak %s: %w", JoinProtocol, errdefs.ErrInvalidArgument)
	}
	chain := cs.PeerCertificates
	root := chain[len(chain)-1] // a server shows at least one certificate
	if !root.IsCA || Digest(root) != token.Digest {
		return ErrWrongRoot
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: usage}); err != nil {
		// Often a clock: the error names this one and the certificate's times.
		return fmt.Errorf("certificate of manager: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	peer, err := IdentityOf(chain[0])
	if err != nil {
		return err
	}
	if peer.Role != RoleManager {
		return fmt.Errorf("%s cannot let nodes in: join through a manager: %w", peer, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkJoin makes sure that what came back fits the token, so that a confused
// manager cannot leave a node with an identity that nobody accepts.
func checkJoin(r *JoinResponse, token Token) error {
	root, err := ParseCert(r.RootCert)
	if err != nil {
		return fmt.Errorf("root certificate in answer: %w", err)
	}
	if Digest(root) != token.Digest {
		return ErrWrongRoot
	}
	leaf, err := ParseCert(r.Certificate)
	if err != nil {
		return fmt.Errorf("certificate in answer: %w", err)
	}
	if err := leaf.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("certificate in answer: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	got, err := IdentityOf(leaf)
	if want := (Identity{r.NodeID, r.Role, r.ClusterID}); err == nil && got != want {
		return fmt.Errorf("certificate in answer is of %s, want %s: %w", got, want, errdefs.ErrPermissionDenied)
	}
	return err
}

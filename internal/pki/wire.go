package pki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
)

// Where a manager issues certificates: JoinPath behind the join door,
// RenewPath on the internal RPC.
const (
	JoinPath  = "/join"
	RenewPath = "/renew"
)

// maxAnswer bounds what a node reads from a manager it may not trust yet. A
// list of a thousand managers fits many times.
const maxAnswer = 1 << 20

// JoinRequest asks to become a node. It travels only to a manager whose root
// certificate matches the token.
type JoinRequest struct {
	Token string `json:"token"`
	CSR   []byte `json:"csr"` // PEM, made with the node's own key
	// Certificate is an earlier one of this cluster for the key of CSR, expired
	// or not: the node keeps its id.
	Certificate []byte `json:"certificate,omitempty"` // PEM
	// Addr is the node's cluster listener, GossipAddr its gossip listener. A
	// host that is empty or unspecified stands for the address that the manager
	// sees the request come from.
	Addr         string `json:"addr"`
	GossipAddr   string `json:"gossipAddr"`
	Hostname     string `json:"hostname"`
	Availability string `json:"availability,omitempty"` // active (default), pause or drain
}

// JoinResponse makes a node of the one who asked.
type JoinResponse struct {
	NodeID      string    `json:"nodeID"`
	ClusterID   string    `json:"clusterID"`
	Role        Role      `json:"role"`
	Certificate []byte    `json:"certificate"` // PEM
	RootCert    []byte    `json:"rootCert"`    // PEM
	GossipKeys  [][]byte  `json:"gossipKeys"`  // the first encrypts
	Addr        string    `json:"addr"`        // as stored, host filled in
	GossipAddr  string    `json:"gossipAddr"`
	Managers    []Manager `json:"managers"` // without the node itself
}

// Manager is a manager that a node may talk to. It converts to
// assignment.Manager, which this layer cannot name.
type Manager struct {
	NodeID string `json:"nodeID"`
	Addr   string `json:"addr"` // host:port of the cluster listener
}

// RenewRequest asks for a new certificate for the caller, named by its present
// one.
type RenewRequest struct {
	CSR []byte `json:"csr"` // PEM
}

// RenewResponse answers RenewRequest.
type RenewResponse struct {
	Role        Role   `json:"role"`
	Certificate []byte `json:"certificate"` // PEM
}

// Refusal is the body of every answer that is not 200.
type Refusal struct {
	Message string `json:"message"`
	// Leader is set with StatusMisdirectedRequest: the manager to ask instead.
	Leader string `json:"leader,omitempty"`
}

// misdirected is the error of a manager that named the leader.
type misdirected struct {
	leader  string
	message string
}

func (m *misdirected) Error() string { return m.message }
func (m *misdirected) Unwrap() error { return errdefs.ErrUnavailable }

// post sends a JSON body and reads a JSON answer of bounded size.
func post[T any](ctx context.Context, client *http.Client, url string, body any) (*T, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("read answer: %w: %w", err, errdefs.ErrUnavailable)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("answer is over %d bytes: %w", maxAnswer, errdefs.ErrOutOfRange)
	}
	if response.StatusCode != http.StatusOK {
		return nil, refused(response.StatusCode, answer)
	}
	var out T
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("decode answer: %w: %w", err, errdefs.ErrDataLoss)
	}
	return &out, nil
}

// refused turns an answer back into the error that the manager had.
func refused(status int, body []byte) error {
	var r Refusal
	if err := json.Unmarshal(body, &r); err != nil || r.Message == "" {
		r.Message = fmt.Sprintf("manager answered %d %s", status, http.StatusText(status))
	}
	if r.Message == ErrTokenRefused.Error() {
		return ErrTokenRefused
	}
	switch status {
	case http.StatusMisdirectedRequest:
		return &misdirected{leader: r.Leader, message: r.Message}
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return errdefs.ErrInvalidArgument.WithMessage(r.Message)
	case http.StatusForbidden:
		return errdefs.ErrPermissionDenied.WithMessage(r.Message)
	case http.StatusTooManyRequests:
		return errdefs.ErrResourceExhausted.WithMessage(r.Message)
	case http.StatusServiceUnavailable:
		return errdefs.ErrUnavailable.WithMessage(r.Message)
	default:
		return errdefs.ErrUnknown.WithMessage(r.Message)
	}
}

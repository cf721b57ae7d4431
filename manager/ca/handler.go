package ca

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/containerd/errdefs"

	"shoal/internal/pki"
)

// maxBody bounds what a stranger can make a manager read.
const maxBody = 64 << 10

// JoinHandler answers POST pki.JoinPath. It asks for no certificate: it belongs
// behind the join door and nowhere else.
func (c *CA) JoinHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request pki.JoinRequest
		if !c.read(w, r, &request) {
			return
		}
		var from netip.Addr // invalid if the connection is no TCP connection
		if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			from = remote.Addr()
		}
		response, err := c.Join(r.Context(), request, from)
		c.answer(w, response, err)
	})
}

// RenewHandler answers POST pki.RenewPath on the internal RPC: managers and
// workers may call it, for themselves only.
func (c *CA) RenewHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			c.answer(w, nil, fmt.Errorf("no certificate: %w", errdefs.ErrUnauthenticated))
			return
		}
		peer, err := pki.PeerIdentity(*r.TLS)
		if err != nil {
			c.answer(w, nil, err)
			return
		}
		var request pki.RenewRequest
		if !c.read(w, r, &request) {
			return
		}
		response, err := c.Renew(r.Context(), peer, request.CSR)
		c.answer(w, response, err)
	})
}

// read decodes the body of a POST. If it cannot, it has answered.
func (c *CA) read(w http.ResponseWriter, r *http.Request, into any) bool {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		c.write(w, http.StatusMethodNotAllowed, pki.Refusal{Message: "method " + r.Method + " is not allowed, use POST"})
		return false
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		c.write(w, http.StatusRequestEntityTooLarge, pki.Refusal{Message: fmt.Sprintf("body is over %d bytes", maxBody)})
	case err != nil:
		c.write(w, http.StatusBadRequest, pki.Refusal{Message: "body is not valid JSON: " + err.Error()})
	}
	return err == nil
}

func (c *CA) answer(w http.ResponseWriter, response any, err error) {
	if err != nil {
		status := statusOf(err)
		refusal := pki.Refusal{Message: err.Error()}
		if status == http.StatusServiceUnavailable {
			if refusal.Leader = c.leader(); refusal.Leader != "" {
				status = http.StatusMisdirectedRequest
			}
		}
		c.write(w, status, refusal)
		return
	}
	c.write(w, http.StatusOK, response)
}

func (c *CA) write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		c.log.Debug("answer not sent", "error", err)
	}
}

func statusOf(err error) int {
	switch {
	case errdefs.IsInvalidArgument(err):
		return http.StatusBadRequest
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsResourceExhausted(err):
		return http.StatusTooManyRequests
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

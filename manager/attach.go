package manager

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"

	"shoal/internal/id"
	"shoal/manager/api"
)

// Nodes may attach containers, but only their own: the API's calls, with the
// node's id from its certificate and not from what it says.

// Detach is what a node says to give a place on a network back.
type Detach struct {
	ID string `json:"ID"`
}

// attach gives a container of the calling node a place on a network.
func (m *Manager) attach(w http.ResponseWriter, r *http.Request) {
	var request api.AttachRequest
	if err := decodeRPC(r, &request); err != nil {
		api.WriteError(w, err)
		return
	}
	request.NodeID, _, _ = identity(r) // authorize has seen to it
	body, err := json.Marshal(request)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	m.onBehalf(w, r, http.MethodPost, api.AttachmentPath, nil, body)
}

// detach gives it back.
func (m *Manager) detach(w http.ResponseWriter, r *http.Request) {
	var request Detach
	if err := decodeRPC(r, &request); err != nil {
		api.WriteError(w, err)
		return
	}
	if !id.Valid(request.ID) {
		api.WriteError(w, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid ID: %q", request.ID)))
		return
	}
	m.onBehalf(w, r, http.MethodDelete, api.AttachmentPath+"/"+request.ID, ofCaller(r), nil)
}

// attachments lists what the calling node has.
func (m *Manager) attachments(w http.ResponseWriter, r *http.Request) {
	if err := decodeRPC(r, &struct{}{}); err != nil {
		api.WriteError(w, err)
		return
	}
	m.onBehalf(w, r, http.MethodGet, api.AttachmentPath, ofCaller(r), nil)
}

func ofCaller(r *http.Request) url.Values {
	nodeID, _, _ := identity(r)
	return url.Values{"node": {nodeID}}
}

func decodeRPC(r *http.Request, into any) error {
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(into); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid JSON: %v", err))
	}
	return nil
}

// onBehalf has the leader answer a call of the API. The id under which a node
// repeats a request whose answer was lost goes with it.
func (m *Manager) onBehalf(w http.ResponseWriter, r *http.Request, method, path string, query url.Values, body []byte) {
	call := r.Clone(r.Context())
	call.Method, call.Body, call.ContentLength = method, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	call.URL = &url.URL{Path: path, RawQuery: query.Encode()}
	call.Header = http.Header{}
	if body != nil {
		call.Header.Set("Content-Type", "application/json")
	}
	if request := r.Header.Get(api.RequestHeader); request != "" {
		call.Header.Set(api.RequestHeader, request)
	}
	m.handler.ServeHTTP(w, call)
}

package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/docker/docker/api/types/swarm"
)

// Resign has this manager made a worker, and waits until the others have taken
// it out of the consensus.
func (m *Manager) Resign(ctx context.Context) error {
	var node swarm.Node
	if err := m.call(ctx, http.MethodGet, "/nodes/"+m.nodeID, nil, nil, &node); err != nil {
		return err
	}
	node.Spec.Role = swarm.NodeRoleWorker
	version := url.Values{"version": {strconv.FormatUint(node.Version.Index, 10)}}
	if err := m.call(ctx, http.MethodPost, "/nodes/"+m.nodeID+"/update", version, node.Spec, nil); err != nil {
		return err
	}
	for {
		changed := m.LeaderChanged()
		if !m.isPeer() {
			return nil
		}
		select {
		case <-changed:
		case <-retryAfter(m.nodeID):
		case <-ctx.Done():
			return errors.New("the managers have not taken this one out of the consensus yet")
		}
	}
}

func (m *Manager) isPeer() bool {
	for _, p := range m.store.Peers() {
		if p.ID == m.nodeID {
			return true
		}
	}
	return false
}

// call has the leader answer a call of the API.
func (m *Manager) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, path+"?"+query.Encode(), bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	w := &memoryWriter{header: http.Header{}}
	m.handler.ServeHTTP(w, r)
	if w.status/100 != 2 {
		return fmt.Errorf("%s %s: %d: %s", method, path, w.status, bytes.TrimSpace(w.body.Bytes()))
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(io.Reader(&w.body)).Decode(into)
}

// memoryWriter keeps an answer in memory.
type memoryWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/docker/docker/api/types/events"

	"shoal/manager"
	"shoal/manager/watch"
)

// eventWriter joins streams of events, a line of JSON each, into one answer.
type eventWriter struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
}

func (e *eventWriter) write(event any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.started {
		e.started = true
		e.w.Header().Set("Content-Type", "application/json")
	}
	if err := json.NewEncoder(e.w).Encode(event); err != nil {
		return err
	}
	return e.control.Flush()
}

func (e *eventWriter) begun() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.started
}

// placed adds the node to events of this node's containers of the cluster, as
// other nodes' have it.
func placed(m *member, mgr *manager.Manager, emit func(any) error) func(any) error {
	id := m.record.Load().NodeID
	return func(raw any) error {
		text, ok := raw.(json.RawMessage)
		var e events.Message
		if !ok || json.Unmarshal(text, &e) != nil || e.Type != events.ContainerEventType || !m.owns(e.Actor.Attributes) {
			return emit(raw)
		}
		return emit(watch.Placed(e, id, mgr.NodeName(id)))
	}
}

// events hands on the engine's events until its stream ends.
func (e *engineProxy) events(ctx context.Context, query string, emit func(any) error) error {
	response, err := e.ask(ctx, "/events?"+query)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Message string `json:"message"`
		}
		_ = json.NewDecoder(response.Body).Decode(&refusal) // the status says enough
		return fmt.Errorf("events of the Docker Engine: %s: %s", response.Status, refusal.Message)
	}
	dec := json.NewDecoder(response.Body)
	for {
		var event json.RawMessage
		if err := dec.Decode(&event); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := emit(event); err != nil {
			return err
		}
	}
}

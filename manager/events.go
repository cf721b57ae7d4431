package manager

import (
	"context"
	"io"
	"net/url"

	"shoal/manager/relay"
	"shoal/manager/watch"
)

// Events emits the cluster's events that match a query of GET /events, until
// the query's end or that of ctx.
func (m *Manager) Events(ctx context.Context, query url.Values, emit func(any) error) error {
	return m.api.Events(ctx, query, emit)
}

// ContainerEvents emits those of the cluster's containers on other nodes. If the
// query names nodes, this one is like the others.
func (m *Manager) ContainerEvents(ctx context.Context, query url.Values, emit func(any) error) error {
	return watch.New(watch.Config{
		Store: m.store, Here: m.nodeID, Log: m.log,
		Open: func(ctx context.Context, nodeID string, query url.Values) (io.ReadCloser, error) {
			return m.relay.Open(ctx, relay.Target{NodeID: nodeID, Name: m.NodeName(nodeID), Path: "/events", Query: query.Encode()})
		},
	}).Events(ctx, query, emit)
}

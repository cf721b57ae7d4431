package manager

import (
	"context"
	"net/url"
)

// Events emits the cluster's events that match a query of GET /events, until
// the query's end or that of ctx.
func (m *Manager) Events(ctx context.Context, query url.Values, emit func(any) error) error {
	return m.api.Events(ctx, query, emit)
}

package manager

import (
	"context"
	"errors"
	"net/http"

	"shoal/manager/api"
	"shoal/manager/ca"
	"shoal/raftstore"
	"shoal/raftstore/state"
)

// apiMux routes the API's calls to their handlers, on the leader.
func (m *Manager) apiMux() http.Handler {
	mux := http.NewServeMux()
	for _, route := range m.api.Routes() {
		mux.Handle(route.Method+" "+route.Pattern, route.Handler)
	}
	mux.Handle("POST "+ca.ClientPath, m.ca.ClientHandler())
	mux.HandleFunc("GET /shoal/v1/doctor", m.doctor)
	return markRetry(mux)
}

// versioned takes the API version off a forwarded path again.
func versioned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bare, err := api.Unversioned(r)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		next.ServeHTTP(w, bare)
	})
}

// forward has next answer on the leader. Other managers serve it below prefix.
func (m *Manager) forward(prefix string, next http.Handler) http.Handler {
	return &forwarder{nodeID: m.nodeID, leader: m.store, client: m.client, prefix: prefix, next: next, body: maxBody}
}

type retryKey struct{}

// markRetry sets RetryHeader on an answer that came about because this manager
// does not lead, or did not long enough to say what became of a write.
func markRetry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lost := new(bool)
		m := &marker{ResponseWriter: w, lost: lost}
		next.ServeHTTP(m, r.WithContext(context.WithValue(r.Context(), retryKey{}, lost)))
		if !m.begun && r.Context().Err() != nil {
			// This manager stops, or the client has gone. Without this the answer
			// would be a 200 for something that was not done.
			*lost = true
			writeError(m, http.StatusServiceUnavailable, r.Context().Err())
		}
	})
}

type marker struct {
	http.ResponseWriter
	lost  *bool
	begun bool
}

func (m *marker) Write(p []byte) (int, error) {
	m.begun = true
	return m.ResponseWriter.Write(p)
}

func (m *marker) WriteHeader(status int) {
	m.begun = true
	if *m.lost && status == http.StatusServiceUnavailable {
		m.Header().Set(RetryHeader, "1")
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *marker) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// apiStore is the store as the API sees it: it notes why a call failed.
type apiStore struct{ *raftstore.Store }

func (s apiStore) Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error {
	err := s.Store.Update(ctx, plan)
	note(ctx, err)
	return err
}

func (s apiStore) Linearizable(ctx context.Context) (*state.View, error) {
	view, err := s.Store.Linearizable(ctx)
	note(ctx, err)
	return view, err
}

func note(ctx context.Context, err error) {
	lost, ok := ctx.Value(retryKey{}).(*bool)
	if ok && (errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, raftstore.ErrOutcomeUnknown) || errors.Is(err, raftstore.ErrClosed)) {
		*lost = true
	}
}

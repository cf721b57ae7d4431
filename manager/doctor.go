package manager

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"shoal/manager/api"
	"shoal/manager/doctor"
)

// doctor answers how all nodes are, as they say themselves now.
func (m *Manager) doctor(w http.ResponseWriter, r *http.Request) {
	if m.nodes == nil {
		api.WriteError(w, fmt.Errorf("this manager cannot ask other nodes: %w", errdefs.ErrNotImplemented))
		return
	}
	view, err := apiStore{m.store}.Linearizable(r.Context())
	if err != nil {
		api.WriteError(w, err)
		return
	}
	diagnosis, err := doctor.Examine(r.Context(), view, &http.Client{Transport: m.nodes})
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(diagnosis) // fails if the client has gone
}

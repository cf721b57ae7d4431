package manager

import (
	"maps"
	"net/http"
	"sync"
)

// attempt is the response to one try of a request. An answer which says that
// the manager is not, or no longer, the leader is swallowed and sets again.
type attempt struct {
	w      http.ResponseWriter
	header http.Header

	again bool

	mu      sync.Mutex
	started bool
}

func (a *attempt) Header() http.Header { return a.header }

// begun reports whether a part of the answer is on its way to the client, so
// that there can be no other try.
func (a *attempt) begun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

func (a *attempt) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started || a.again {
		return
	}
	if status == http.StatusServiceUnavailable && a.header.Get(RetryHeader) != "" {
		a.again = true
		return
	}
	a.started = true
	maps.Copy(a.w.Header(), a.header)
	a.w.WriteHeader(status)
}

func (a *attempt) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.again {
		return len(p), nil
	}
	return a.w.Write(p)
}

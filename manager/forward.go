package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"shoal/internal/id"
	"shoal/manager/api"
)

// How long a request waits for a leader, as one that hangs on a lost quorum
// does in Swarm; and the size of body that can be sent again.
const (
	leaderWait = 10 * time.Second
	maxBody    = 4 << 20
)

// RetryHeader marks a 503 which says that this manager does not lead.
const RetryHeader = "X-Shoal-Retry"

// errNoLeader is Swarm's text, which clients know.
var errNoLeader = errors.New("rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.") //nolint:revive,staticcheck // the text is Swarm's

var errStopping = errors.New("this manager stops, what became of the request is not known")

// leadership is where the leader is; raftstore.Store in production.
type leadership interface {
	// Leader returns the leader's id and address, empty if there is none, and
	// a channel that is closed when the answer differs.
	Leader() (id, addr string, changed <-chan struct{})
}

// forwarder runs handlers where the leader is. A request that arrives while
// there is no leader waits for one, and one whose answer is lost with its
// leader is sent to the next: a write carries an id under which its outcome is
// stored, so that it happens once.
type forwarder struct {
	nodeID string
	leader leadership
	client *http.Client // reaches other managers
	prefix string       // under which next is mounted on the other managers
	next   http.Handler // handlers that run on the leader
	body   int64        // limit of the body, maxBody
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, f.body))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			writeError(w, http.StatusRequestEntityTooLarge, fmt.Errorf("request body is larger than %d bytes", f.body))
		}
		return // else the client has gone
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get(api.RequestHeader) == "" {
		r.Header.Set(api.RequestHeader, id.New())
	}
	deadline := time.NewTimer(leaderWait)
	defer deadline.Stop()
	for {
		leader, addr, changed := f.leader.Leader()
		if leader != "" {
			out := &attempt{w: w, header: http.Header{}}
			f.try(out, r, body, leader, addr, changed)
			if !out.again {
				return
			}
		}
		select {
		case <-changed:
		case <-retryAfter(leader):
		case <-deadline.C:
			writeError(w, http.StatusInternalServerError, errNoLeader)
			return
		case <-r.Context().Done():
			// Who still reads this is told, for silence would be a 200.
			writeError(w, http.StatusServiceUnavailable, errStopping)
			return
		}
	}
}

// retryAfter is how long a request waits that its leader did not take: it
// knows of its own end a little before the others do.
func retryAfter(leader string) <-chan time.Time {
	if leader == "" {
		return nil
	}
	return time.After(20 * time.Millisecond)
}

// try has one manager answer. out.again is set if another try is due.
func (f *forwarder) try(out *attempt, r *http.Request, body []byte, leader, addr string, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	request := r.Clone(ctx)
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if leader == f.nodeID {
		f.next.ServeHTTP(out, request)
		return
	}
	// The answer of a leader that is one no more may never come.
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() {
		defer close(stopped)
		select {
		case <-changed:
			if !out.begun() {
				cancel()
			}
		case <-stop:
		}
	}()
	f.relay(out, request, addr)
}

// relay sends the request to another manager and copies the answer.
func (f *forwarder) relay(out *attempt, r *http.Request, addr string) {
	r.RequestURI = ""
	r.URL.Scheme, r.URL.Host = "https", addr
	r.URL.Path = f.prefix + "/v" + api.Version(r) + r.URL.Path
	r.URL.RawPath = ""
	r.Host = addr
	for _, h := range []string{"Connection", "Upgrade", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding"} {
		r.Header.Del(h)
	}
	response, err := f.client.Do(r)
	if err != nil {
		out.again = true
		return
	}
	defer response.Body.Close()
	// An answer that breaks off, because its leader dies, is asked for again
	// while none of it has been passed on. Only long lists are longer than this.
	head, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		out.again = true
		return
	}
	maps.Copy(out.Header(), response.Header)
	out.WriteHeader(response.StatusCode)
	if out.again {
		return
	}
	_, _ = out.Write(head) // the client has gone, if it fails
	_, _ = io.Copy(out, response.Body)
}

func writeError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()}) // the client has gone, if it fails
}

package manager

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/manager/api"
)

// council is a leadership that a test moves around.
type council struct {
	mu      sync.Mutex
	leader  string
	changed chan struct{}
}

func newCouncil(leader string) *council {
	return &council{leader: leader, changed: make(chan struct{})}
}

func (c *council) Leader() (id, addr string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader, c.leader, c.changed
}

func (c *council) elect(leader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = leader
	close(c.changed)
	c.changed = make(chan struct{})
}

// others is a client whose requests reach the handler named as the host.
type others map[string]http.Handler

func (o others) RoundTrip(r *http.Request) (*http.Response, error) {
	h := o[r.URL.Host]
	if h == nil {
		return nil, fmt.Errorf("dial %s: no route to host", r.URL.Host)
	}
	answer := make(chan *http.Response, 1)
	served := r.Clone(r.Context()) // the client goes on with its own
	go func() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, served)
		answer <- w.Result()
	}()
	select {
	case a := <-answer:
		return a, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func newForwarder(c *council, remote others, next http.Handler) *forwarder {
	return &forwarder{nodeID: "self", leader: c, client: &http.Client{Transport: remote}, prefix: "/api", next: next, body: 100}
}

// echo answers with what it saw.
func echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Test", "kept")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %s %s", name, r.Method, r.URL.Path, body)
	})
}

func notLeading(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(RetryHeader, "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, "not the leader")
}

func send(f *forwarder, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func TestForwardRunsOnTheLeader(t *testing.T) {
	c := newCouncil("self")
	f := newForwarder(c, others{"m2": echo("m2")}, echo("self"))
	if got := send(f, "POST", "/services/create", "x"); got.Code != 201 || got.Body.String() != "self POST /services/create x" {
		t.Errorf("on the leader: %d %s", got.Code, got.Body)
	}
	c.elect("m2")
	got := send(f, "POST", "/services/create", "x")
	want := "m2 POST /api/v" + api.MaxVersion + "/services/create x"
	if got.Code != 201 || got.Body.String() != want || got.Header().Get("X-Test") != "kept" {
		t.Errorf("on a follower: %d %s %v, want %s", got.Code, got.Body, got.Header(), want)
	}
}

func TestForwardGivesWritesAnID(t *testing.T) {
	seen := map[string]int{}
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get(api.RequestHeader); id != "" {
			seen[id]++
		}
	})
	f := newForwarder(newCouncil("self"), nil, next)
	send(f, "GET", "/services", "")
	if len(seen) != 0 {
		t.Error("a read has a request id")
	}
	send(f, "POST", "/services/create", "")
	send(f, "DELETE", "/services/x", "")
	r := httptest.NewRequest("POST", "/services/create", nil)
	r.Header.Set(api.RequestHeader, "mine")
	f.ServeHTTP(httptest.NewRecorder(), r)
	if len(seen) != 3 || seen["mine"] != 1 {
		t.Errorf("ids of three writes: %v", seen)
	}
}

func TestForwardWaitsForALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil("")
		f := newForwarder(c, nil, echo("self"))
		go func() {
			time.Sleep(leaderWait - time.Second)
			c.elect("self")
		}()
		if got := send(f, "GET", "/services", ""); got.Code != 201 {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}

func TestForwardGivesUpWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		got := send(newForwarder(newCouncil(""), nil, echo("self")), "GET", "/services", "")
		if got.Code != 500 || !strings.Contains(got.Body.String(), "The swarm does not have a leader") {
			t.Errorf("%d %s", got.Code, got.Body)
		}
		if waited := time.Since(started); waited != leaderWait {
			t.Errorf("waited %v, want %v", waited, leaderWait)
		}
	})
}

// The leader is cut off with the request in its hands: the next one gets it,
// under the same id.
func TestForwardSendsAgainWhenTheLeaderIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil("m2")
		seen := make(chan string, 2)
		note := func(r *http.Request) { seen <- r.Header.Get(api.RequestHeader) }
		silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			note(r)
			<-r.Context().Done()
		})
		answering := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note(r)
			echo("m3").ServeHTTP(w, r)
		})
		f := newForwarder(c, others{"m2": silent, "m3": answering}, nil)
		go func() {
			time.Sleep(time.Second)
			c.elect("")
			time.Sleep(time.Second)
			c.elect("m3")
		}()
		got := send(f, "POST", "/services/create", "x")
		if got.Code != 201 || !strings.HasPrefix(got.Body.String(), "m3") || !strings.HasSuffix(got.Body.String(), " x") {
			t.Errorf("%d %s", got.Code, got.Body)
		}
		if first, second := <-seen, <-seen; first != second || first == "" {
			t.Errorf("request ids %q and %q: want one, twice", first, second)
		}
	})
}

func TestForwardTriesAgainWhenAManagerDoesNotLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if tries++; tries < 3 {
				notLeading(w, r)
				return
			}
			echo("self").ServeHTTP(w, r)
		})
		got := send(newForwarder(newCouncil("self"), nil, next), "GET", "/nodes", "")
		if got.Code != 201 || got.Body.String() != "self GET /nodes " || got.Header().Get(RetryHeader) != "" {
			t.Errorf("%d %s %v", got.Code, got.Body, got.Header())
		}
		// The same from another manager, and one that cannot be reached at first.
		c := newCouncil("gone")
		go func() {
			time.Sleep(time.Second)
			c.elect("m2")
			time.Sleep(time.Second)
			c.elect("m3")
		}()
		got = send(newForwarder(c, others{"m2": http.HandlerFunc(notLeading), "m3": echo("m3")}, nil), "GET", "/nodes", "")
		if got.Code != 201 || !strings.HasPrefix(got.Body.String(), "m3") {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}

func TestForwardPassesOtherRefusalsOn(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if got := send(newForwarder(newCouncil("self"), nil, next), "POST", "/x", ""); got.Code != 503 {
		t.Errorf("status %d", got.Code)
	}
}

func TestForwardRefusesLargeBodies(t *testing.T) {
	got := send(newForwarder(newCouncil("self"), nil, echo("self")), "POST", "/x", strings.Repeat("x", 101))
	if got.Code != http.StatusRequestEntityTooLarge || !strings.Contains(got.Body.String(), "100 bytes") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestForwardEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := httptest.NewRequest("GET", "/x", nil)
		ctx, cancel := contextWithTimeout(t, time.Second)
		defer cancel()
		started := time.Now()
		newForwarder(newCouncil(""), nil, echo("self")).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		if waited := time.Since(started); waited != time.Second {
			t.Errorf("waited %v for a leader after the client had gone", waited)
		}
	})
}

func TestARequestThatAStoppingManagerDropsIsNoSuccess(t *testing.T) {
	c := newCouncil("m2")
	ctx, stop := context.WithCancel(t.Context())
	stopping := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stop()
		c.elect("m3")
		markRetry(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r.WithContext(ctx))
	})
	f := newForwarder(c, others{"m2": stopping, "m3": echo("m3")}, nil)
	if got := send(f, "POST", "/services/create", ""); got.Code != http.StatusCreated {
		t.Errorf("when the leader stops: %d %s, want the next one's answer", got.Code, got.Body)
	}
	f = newForwarder(newCouncil("self"), nil, stopping)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest("POST", "/services/create", nil).WithContext(ctx))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("of a manager that stops: %d %s, want 503", w.Code, w.Body)
	}
}

// breaking is a body that breaks off after its first bytes.
type breaking struct{ io.Reader }

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *breaking) Close() error { return nil }

// dying answers with the beginning of an answer, and is no leader any more.
type dying struct {
	others
	council *council
}

func (d dying) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "dying" {
		return d.others.RoundTrip(r)
	}
	defer d.council.elect("m3")
	return &http.Response{StatusCode: http.StatusCreated, Header: http.Header{}, Body: &breaking{strings.NewReader("{")}, ContentLength: 30, Request: r}, nil
}

func TestForwardAsksAgainForAnAnswerThatBreaksOff(t *testing.T) {
	c := newCouncil("dying")
	f := newForwarder(c, nil, nil)
	f.client = &http.Client{Transport: dying{others{"m3": echo("m3")}, c}}
	if got := send(f, "POST", "/services/create", ""); got.Code != http.StatusCreated || !strings.HasPrefix(got.Body.String(), "m3") {
		t.Errorf("%d %s, want the next leader's answer", got.Code, got.Body)
	}
}

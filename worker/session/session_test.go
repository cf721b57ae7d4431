package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/goleak"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a manager that says what a test wants. It serves one session at a
// time and hands over each line that it gets.
type script struct {
	serve func(s *script, w http.ResponseWriter, lines *bufio.Scanner)

	mu     sync.Mutex
	hellos []assignment.Hello
	ups    []assignment.Up
	accept chan net.Conn
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lines := bufio.NewScanner(r.Body)
	lines.Scan()
	var up assignment.Up
	if err := json.Unmarshal(lines.Bytes(), &up); err != nil || up.Hello == nil {
		http.Error(w, "no hello", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.hellos = append(s.hellos, *up.Hello)
	s.mu.Unlock()
	s.serve(s, w, lines)
}

func (s *script) sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hellos)
}

// say sends lines, the first with a welcome.
func say(w http.ResponseWriter, lines ...assignment.Down) {
	for _, line := range lines {
		_ = json.NewEncoder(w).Encode(line)
		_ = http.NewResponseController(w).Flush()
	}
}

func welcome(line assignment.Down) assignment.Down {
	line.Welcome = &assignment.Welcome{Version: assignment.Version, ManagerID: "m1", Heartbeat: time.Second}
	return line
}

// listen notes the worker's lines until the session ends.
func (s *script) listen(lines *bufio.Scanner) {
	for lines.Scan() {
		var up assignment.Up
		_ = json.Unmarshal(lines.Bytes(), &up)
		s.mu.Lock()
		s.ups = append(s.ups, up)
		s.mu.Unlock()
	}
}

// talking is a manager that welcomes the worker and sends heartbeats.
func talking(s *script, w http.ResponseWriter, lines *bufio.Scanner) {
	say(w, welcome(assignment.Down{Full: true, Index: 9}))
	done := make(chan struct{})
	go func() { defer close(done); s.listen(lines) }()
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
			say(w, assignment.Down{})
		}
	}
}

func (s *script) Accept() (net.Conn, error) {
	conn, ok := <-s.accept
	if !ok {
		return nil, io.EOF
	}
	return conn, nil
}
func (s *script) Close() error   { return nil }
func (s *script) Addr() net.Addr { return &net.UnixAddr{} }

// against runs a session against a script in a bubble and then f.
func against(t *testing.T, serve func(*script, http.ResponseWriter, *bufio.Scanner), change func(*Config), f func(*script, *Session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &script{serve: serve, accept: make(chan net.Conn)}
		server := &http.Server{Handler: m, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Second}
		server.Protocols.SetUnencryptedHTTP2(true)
		var serving, running sync.WaitGroup
		serving.Go(func() { _ = server.Serve(m) })
		cfg := Config{
			NodeID: "n1", Boot: "b1", Log: slog.New(slog.DiscardHandler),
			Managers: func() []assignment.Manager { return []assignment.Manager{{NodeID: "m1", Addr: "m1:2377"}} },
			Dial: func(context.Context, string) (net.Conn, error) {
				near, far := net.Pipe()
				m.accept <- far
				return near, nil
			},
			Describe: func(context.Context) (swarm.NodeDescription, error) {
				return swarm.NodeDescription{Hostname: "n1"}, nil
			},
			Held:  func() (uint64, []string) { return 7, []string{"old"} },
			Apply: func(assignment.Down) error { return nil },
		}
		if change != nil {
			change(&cfg)
		}
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { _ = s.Run(ctx) })
		f(m, s)
		cancel()
		running.Wait()
		close(m.accept)
		_ = server.Close()
		serving.Wait()
	})
}

func settle(d time.Duration) {
	time.Sleep(d) // virtual time
	synctest.Wait()
}

func TestSilentManagerIsLeft(t *testing.T) {
	mute := func(s *script, w http.ResponseWriter, lines *bufio.Scanner) {
		say(w, welcome(assignment.Down{Index: 9}))
		s.listen(lines)
	}
	against(t, mute, nil, func(m *script, _ *Session) {
		settle(Silence - time.Millisecond)
		if n := m.sessions(); n != 1 {
			t.Errorf("%d sessions before the manager was silent for long", n)
		}
		settle(500 * time.Millisecond)
		if n := m.sessions(); n != 2 {
			t.Fatalf("%d sessions, want the second at once", n)
		}
		if first, second := m.hellos[0], m.hellos[1]; first.Index != 7 || len(first.Managed) != 1 || second.Index != 9 || second.Boot != "b1" {
			t.Errorf("hellos: %+v, %+v", first, second)
		}
	})
}

func TestManagerThatNeverAnswersIsLeft(t *testing.T) {
	against(t, func(s *script, _ http.ResponseWriter, lines *bufio.Scanner) { s.listen(lines) }, nil, func(m *script, _ *Session) {
		settle(time.Minute)
		if n := m.sessions(); n < 10 || n > 25 {
			t.Errorf("%d tries in a minute", n)
		}
	})
}

func TestSlowApplyIsNotSilence(t *testing.T) {
	slow := func(c *Config) { c.Apply = func(assignment.Down) error { time.Sleep(10 * time.Second); return nil } }
	against(t, talking, slow, func(m *script, _ *Session) {
		settle(time.Minute)
		if n := m.sessions(); n != 1 {
			t.Errorf("%d sessions", n)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if n := len(m.ups); n < 45 {
			t.Errorf("%d heartbeats in a minute", n)
		}
	})
}

func TestFailedApplyAsksForEverything(t *testing.T) {
	talk := func(s *script, w http.ResponseWriter, lines *bufio.Scanner) {
		say(w, welcome(assignment.Down{Index: 9, Remove: []string{"old"}}))
		s.listen(lines)
	}
	fail := func(c *Config) { c.Apply = func(assignment.Down) error { return errors.New("disk full") } }
	against(t, talk, fail, func(m *script, _ *Session) {
		settle(time.Minute)
		// It must not spin: 10 s of quick tries, then one every 1 to 2 s.
		if n := m.sessions(); n < 30 || n > 150 || m.hellos[1].Index != 0 {
			t.Errorf("%d sessions in a minute, the second from index %d", n, m.hellos[1].Index)
		}
	})
}

func TestRefusalsHaveKinds(t *testing.T) {
	tests := []struct {
		status int
		is     func(error) bool
		called bool
	}{
		{http.StatusForbidden, errdefs.IsPermissionDenied, true},
		{http.StatusConflict, errdefs.IsConflict, true},
		{http.StatusServiceUnavailable, errdefs.IsUnavailable, false},
	}
	for _, tt := range tests {
		refuse := func(_ *script, w http.ResponseWriter, _ *bufio.Scanner) { http.Error(w, "go away", tt.status) }
		var got []error
		against(t, refuse, func(c *Config) { c.OnRefused = func(err error) { got = append(got, err) } }, func(*script, *Session) {
			settle(5 * time.Second)
		})
		if (len(got) > 0) != tt.called || len(got) > 0 && (len(got) != 1 || !tt.is(got[0])) {
			t.Errorf("status %d: OnRefused with %v", tt.status, got)
		}
	}
}

func TestRefusalTextIsWhatTheManagerSays(t *testing.T) {
	for body, want := range map[string]string{
		`{"message":"node n1 is no longer part of the cluster"}`: "node n1 is no longer part of the cluster",
		"another daemon has this identity\n":                     "another daemon has this identity",
		`{"message":""}`:                                         `{"message":""}`,
	} {
		if got := refusalText([]byte(body)); got != want {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	}
}

func TestChangedDescriptionIsSent(t *testing.T) {
	var mu sync.Mutex
	name := "one"
	describe := func(c *Config) {
		c.Describe = func(context.Context) (swarm.NodeDescription, error) {
			mu.Lock()
			defer mu.Unlock()
			if name == "" {
				return swarm.NodeDescription{}, errors.New("engine is away")
			}
			return swarm.NodeDescription{Hostname: name}, nil
		}
	}
	set := func(s string) { mu.Lock(); name = s; mu.Unlock() }
	against(t, talking, describe, func(m *script, _ *Session) {
		settle(5 * time.Second)
		set("two")
		settle(20 * time.Second)
		set("")
		settle(20 * time.Second)
		m.mu.Lock()
		defer m.mu.Unlock()
		var sent []string
		for _, up := range m.ups {
			if up.Description != nil {
				sent = append(sent, up.Description.Hostname)
			}
		}
		if m.hellos[0].Description.Hostname != "one" || len(sent) != 1 || sent[0] != "two" {
			t.Errorf("hello with %q, then %q", m.hellos[0].Description.Hostname, sent)
		}
	})
}

func TestStatusGoesAtOnceWhenIdle(t *testing.T) {
	talk := func(s *script, w http.ResponseWriter, lines *bufio.Scanner) {
		say(w, welcome(assignment.Down{}))
		s.listen(lines)
	}
	against(t, talk, nil, func(m *script, s *Session) {
		settle(100 * time.Millisecond)
		s.Report("a", taskstate.Status{State: taskstate.Running})
		s.Report("b", taskstate.Status{State: taskstate.Running})
		settle(0)
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.ups) == 0 || len(m.ups[0].Statuses) == 0 || m.ups[0].Seq != 1 {
			t.Errorf("lines: %+v", m.ups)
		}
	})
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config is accepted")
	}
}

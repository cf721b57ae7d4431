package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine has container "task" of the cluster and "mine" of its node, and
// execs of both.
type fakeEngine struct {
	ended   chan string // the action of a stream whose other end has gone
	written atomic.Int64
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path := splitVersion(r.URL.Path)
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if path == "/events" {
		f.events(w, r)
		return
	}
	switch id, action := parts[1], parts[2]; {
	case parts[0] == "exec" && action == "json":
		fmt.Fprintf(w, `{"ContainerID":%q}`, strings.TrimPrefix(id, "exec-"))
	case parts[0] == "exec" && action == "start":
		f.echo(w, r)
	case id != "task" && id != "whole-id" && id != "mine":
		writeError(w, http.StatusNotFound, errors.New("No such container: "+id))
	case action == "json":
		labels := map[string]string{"shoal.task.id": "t1"}
		if id == "mine" {
			labels = nil
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Id": "whole-id", "Config": map[string]any{"Labels": labels}, "State": map[string]int{"Pid": 7}})
	case action == "logs":
		f.logs(w, r)
	case action == "archive":
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes at %s", n, r.URL.Path)
	default:
		fmt.Fprint(w, r.Method, " ", r.URL.Path, "?", r.URL.RawQuery)
	}
}

// echo says what it was asked, and then whatever it is sent, until it is sent
// no more.
func (f *fakeEngine) echo(w http.ResponseWriter, r *http.Request) {
	head, _ := io.ReadAll(r.Body)
	if strings.Contains(string(head), `"Detach":true`) {
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, upgraded(r, "application/vnd.docker.raw-stream"))
	fmt.Fprintf(conn, "%s ", head)
	_, _ = io.Copy(conn, buffered.Reader)
	fmt.Fprint(conn, " end")
}

// logs writes a little for a tail, and for ever if asked to follow.
func (f *fakeEngine) logs(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_, _ = w.Write(frame(1, "begin\n"))
	_ = control.Flush()
	switch r.URL.Query().Get("follow") {
	case "quiet":
		<-r.Context().Done()
	case "fast":
		piece := frame(1, strings.Repeat("x", 1<<14))
		for r.Context().Err() == nil {
			n, err := w.Write(piece)
			f.written.Add(int64(n))
			if err != nil {
				break
			}
		}
	default:
		return
	}
	f.ended <- "logs"
}

func (f *fakeEngine) events(w http.ResponseWriter, r *http.Request) {
	for _, id := range []string{"t1", ""} {
		e := events.Message{Type: "container", Action: "start", Actor: events.Actor{ID: r.URL.Query().Get("filters"), Attributes: map[string]string{}}}
		if id != "" {
			e.Actor.Attributes["shoal.task.id"] = id
		}
		_ = json.NewEncoder(w).Encode(e)
	}
}

// pair is a manager's end and a node's, with the engine behind it.
type pair struct {
	t      *testing.T
	engine *fakeEngine
	caller *Caller
	node   *httptest.Server
	front  *httptest.Server // what clients talk to
	target Target
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, engine: &fakeEngine{ended: make(chan string, 10)}}
	engine := httptest.NewServer(p.engine)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", engine.Listener.Addr().String())
	}}
	log := slog.New(slog.DiscardHandler)
	p.node = httptest.NewUnstartedServer(&Door{
		Engine: transport, Log: log, Version: func(context.Context) string { return "1.41" },
		Owns: func(labels map[string]string) bool { return labels["shoal.task.id"] != "" },
		Dial: func(ctx context.Context, pid int, port uint16) (net.Conn, error) {
			if pid != 7 || port != 80 {
				return nil, errors.New("connection refused")
			}
			near, far := net.Pipe()
			go func() {
				line, _ := bufio.NewReader(far).ReadString('\n')
				fmt.Fprint(far, "got ", line)
				far.Close()
			}()
			return near, nil
		},
	})
	p.node.EnableHTTP2 = true
	p.node.StartTLS()
	p.caller = New(Config{Log: log, Dial: func(ctx context.Context, nodeID string) (net.Conn, error) {
		if nodeID != "node1" {
			return nil, errors.New("node is down")
		}
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}} //nolint:gosec // a test
		return d.DialContext(ctx, "tcp", p.node.Listener.Addr().String())
	}})
	p.target = Target{NodeID: "node1", Name: "h1"}
	p.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := p.target
		target.Path, target.Query = r.URL.Path, r.URL.RawQuery
		p.caller.Serve(w, r, target, nil)
	}))
	t.Cleanup(func() {
		p.front.CloseClientConnections()
		p.front.Close()
		p.caller.Close()
		p.node.CloseClientConnections()
		p.node.Close()
		transport.CloseIdleConnections()
		engine.CloseClientConnections()
		engine.Close()
	})
	return p
}

func (p *pair) do(method, path string, body io.Reader) (status int, text string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.front.URL+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := p.front.Client().Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Errorf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, string(b)
}

func TestCallsReachTheEngine(t *testing.T) {
	p := newPair(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1.41/containers/task/top?ps_args=aux", "", 200, "GET /v1.41/containers/whole-id/top?ps_args=aux"},
		{"GET", "/v1.51/containers/task/top", "", 200, "GET /containers/whole-id/top?"}, // its engine is older
		{"GET", "/containers/task/top", "", 200, "GET /containers/whole-id/top?"},
		{"POST", "/v1.41/containers/task/kill?signal=INT", "", 200, "POST /v1.41/containers/whole-id/kill?signal=INT"},
		{"PUT", "/v1.41/containers/task/archive?path=/", strings.Repeat("x", 1<<20), 200, "1048576 bytes at /v1.41/containers/whole-id/archive"},
		{"GET", "/containers/task/logs?tail=1", "", 200, string(frame(1, "begin\n"))},
		{"POST", "/exec/exec-task/resize?h=1&w=2", "", 404, "No such container: exec-task"},
		{"GET", "/containers/nobody/top", "", 404, "No such container: nobody"},
		{"GET", "/containers/mine/top", "", 403, "container mine is neither of a task of this cluster"},
		{"POST", "/exec/exec-mine/start", "{}", 403, "container exec-mine is neither"},
		{"POST", "/exec/exec-task/start", `{"Detach":true}`, 200, ""},
		{"POST", "/containers/task/forward?port=0", "", 400, "want 1 to 65535"},
		{"POST", "/containers/task/forward?port=81", "", 503, "port 81 of container whole-id: connection refused"},
		{"POST", "/containers/task/start", "", 403, "not a call that a manager may make"},
		{"POST", "/containers/create", "{}", 403, "not a call"},
		{"DELETE", "/containers/task", "", 403, "not a call"},
		{"GET", "/containers/task/archive/x", "", 403, "not a call"},
		{"GET", "/images/json", "", 403, "not a call"},
		{"POST", "/containers/task/logs", "", 403, "not a call"},
		{"GET", "/containers/../images/json", "", 403, "not a call"},
	} {
		status, text := p.do(c.method, c.path, strings.NewReader(c.body))
		if status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %.200q, want %d with %q", c.method, c.path, status, text, c.status, c.want)
		}
	}
	p.target.NodeID = "node2"
	if status, text := p.do("GET", "/containers/task/top", nil); status != 503 || !strings.Contains(text, "node h1 cannot be reached: node is down") {
		t.Errorf("a node that is down: %d %s", status, text)
	}
}

// TestRolesOfCalls: nothing that makes, removes or changes a container passes.
func TestCarriesOnlyWhatIsAboutOneContainer(t *testing.T) {
	for _, call := range []string{
		"POST /containers/x/start", "POST /containers/x/stop", "POST /containers/x/restart", "POST /containers/x/update", "POST /containers/x/rename",
		"DELETE /containers/x", "POST /containers/create", "POST /containers/prune", "GET /containers/x/export", "GET /containers/json", "POST /commit",
		"POST /containers/x/forward", "POST /exec/x/json", "GET /exec/x/start", "GET /containers//json", "POST /images/x/push",
	} {
		method, path, _ := strings.Cut(call, " ")
		if _, _, ok := Carries(method, path); ok {
			t.Errorf("%s is carried", call)
		}
	}
}

// stream opens a hijacked connection through the pair, as the docker CLI does.
func (p *pair) stream(path, head string) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.front.Listener.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(head), head)
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("%s: %v %v", path, response, err)
	}
	return conn, in
}

func TestExecPassesBothDirectionsAndTheEndOfEach(t *testing.T) {
	p := newPair(t)
	conn, in := p.stream("/v1.41/exec/exec-task/start", `{"Tty":false}`)
	long := strings.Repeat("0123456789", 100_000)
	go func() {
		_, _ = io.WriteString(conn, long) // what is missing is seen below
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(in)
	if want := `{"Tty":false} ` + long + " end"; string(got) != want || err != nil {
		t.Errorf("%d bytes ending in %.100q, %v, want %d", len(got), got[max(0, len(got)-100):], err, len(want))
	}
}

func TestForwardReachesAPort(t *testing.T) {
	p := newPair(t)
	conn, in := p.stream("/containers/task/forward?port=80", "")
	fmt.Fprintln(conn, "hello")
	if got, err := io.ReadAll(in); string(got) != "got hello\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestClientThatGoesEndsTheFarEnd(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.front.URL+"/containers/task/logs?follow=quiet", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.front.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadFull(response.Body, make([]byte, 8+6)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-p.engine.ended
}

// TestSlowReaderHoldsTheEngineBack: what is between them is bounded.
func TestSlowReaderHoldsTheEngineBack(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	target := p.target
	target.Path, target.Query = "/containers/task/logs", "follow=fast"
	body, err := p.caller.Open(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	last, still := int64(-1), 0
	for tick := time.NewTicker(20 * time.Millisecond); still < 10; <-tick.C {
		now := p.engine.written.Load()
		still++
		if now != last {
			last, still = now, 0
		}
	}
	// The windows, and the buffers of two sockets on the loopback.
	if last == 0 || last > 32<<20 {
		t.Errorf("the engine has written %d bytes that nobody reads", last)
	}
	cancel()
	<-p.engine.ended
}

func TestLostNodeEndsStreamsWithAWord(t *testing.T) {
	p := newPair(t)
	for _, c := range []struct{ tty bool }{{false}, {true}} {
		p.target.TTY = c.tty
		response, err := p.front.Client().Get(p.front.URL + "/containers/task/logs?follow=quiet")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 8+6)); err != nil {
			t.Fatal(err)
		}
		p.node.CloseClientConnections()
		rest, err := io.ReadAll(response.Body)
		response.Body.Close()
		if !strings.Contains(string(rest), "node h1 was lost") || err != nil || (rest[0] == systemError) == c.tty {
			t.Errorf("tty %v: %q, %v", c.tty, rest, err)
		}
		<-p.engine.ended
	}
	_, in := p.stream("/exec/exec-task/start", `{"Tty":true}`)
	if _, err := io.ReadFull(in, make([]byte, len(`{"Tty":true} `))); err != nil {
		t.Fatal(err)
	}
	p.node.CloseClientConnections()
	if rest, err := io.ReadAll(in); !strings.HasPrefix(string(rest), "\r\nnode h1 was lost") || err != nil {
		t.Errorf("exec: %q, %v", rest, err)
	}
}

func TestEventsAreThoseOfTheClustersContainers(t *testing.T) {
	p := newPair(t)
	target := p.target
	target.Path, target.Query = "/events", url.Values{"filters": {`{"type":["image","container"],"event":["start"]}`}}.Encode()
	stream, err := p.caller.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var got []events.Message
	for in := json.NewDecoder(stream); ; {
		var e events.Message
		if err = in.Decode(&e); err != nil {
			break
		}
		got = append(got, e)
	}
	if !errors.Is(err, io.EOF) || len(got) != 1 || got[0].Actor.Attributes["shoal.task.id"] != "t1" || strings.Contains(got[0].Actor.ID, "image") {
		t.Errorf("%+v, %v", got, err)
	}
}

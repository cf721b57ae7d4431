package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/stdcopy"
	"go.uber.org/goleak"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nodes are the engines of a cluster, by container.
type nodes struct {
	mu    sync.Mutex
	logs  map[string]func(ctx context.Context, q url.Values) (io.ReadCloser, error)
	asked []string // "container query"
}

func (n *nodes) open(ctx context.Context, nodeID, containerID string, q url.Values) (io.ReadCloser, error) {
	n.mu.Lock()
	n.asked = append(n.asked, containerID+" "+q.Encode())
	log := n.logs[containerID]
	n.mu.Unlock()
	if log == nil {
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + containerID)
	}
	return log(ctx, q)
}

func (n *nodes) set(containerID string, log func(ctx context.Context, q url.Values) (io.ReadCloser, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logs[containerID] = log
}

// at is a time as engines write it.
func at(second int) string { return fmt.Sprintf("2026-11-26T00:00:%02d.000000000Z", second) }

func line(stream stdcopy.StdType, second int, attrs, text string) []byte {
	var b bytes.Buffer
	payload := at(second) + " "
	if attrs != "-" {
		payload += attrs + " "
	}
	_, _ = stdcopy.NewStdWriter(&b, stream).Write([]byte(payload + text + "\n")) // a buffer takes all
	return b.Bytes()
}

// fixed is a log that has ended.
func fixed(content ...[]byte) func(context.Context, url.Values) (io.ReadCloser, error) {
	return func(context.Context, url.Values) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(bytes.Join(content, nil))), nil
	}
}

// live is a log that goes on until its stream or its reader ends.
func live(from io.ReadCloser) func(context.Context, url.Values) (io.ReadCloser, error) {
	return func(ctx context.Context, _ url.Values) (io.ReadCloser, error) {
		context.AfterFunc(ctx, func() { from.Close() })
		return from, nil
	}
}

func withContainer(t *state.Task) { t.Status.ContainerID = "c-" + t.ID }

func world(tasks ...*state.Task) (*statetest.Store, *nodes) {
	service, revision := statetest.Service("web", 3)
	objs := []state.Object{service, revision}
	for _, id := range []string{"n1", "n2", "n3"} {
		objs = append(objs, statetest.Node(id))
	}
	for _, t := range tasks {
		objs = append(objs, t)
	}
	return statetest.New(objs...), &nodes{logs: map[string]func(context.Context, url.Values) (io.ReadCloser, error){}}
}

func server(store *statetest.Store, n *nodes) http.Handler {
	l := New(Config{Store: store, Open: n.open})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /services/{id}/logs", l.Service)
	mux.HandleFunc("GET /tasks/{id}/logs", l.Task)
	return mux
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// demux is what a client makes of an answer.
func demux(t *testing.T, from io.Reader) (out, errs []string, failed error) {
	t.Helper()
	var o, e bytes.Buffer
	_, failed = stdcopy.StdCopy(&o, &e, from)
	split := func(b bytes.Buffer) (lines []string) {
		lines = strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		slices.Sort(lines)
		return lines
	}
	return split(o), split(e), failed
}

func TestLogsOfAllTasksAreMerged(t *testing.T) {
	dead := statetest.Task("t3", "web", 1, "n3", withContainer, statetest.Observed(taskstate.Failed), statetest.Desired(taskstate.Shutdown))
	store, n := world(
		statetest.Task("t1", "web", 1, "n1", withContainer), statetest.Task("t2", "web", 2, "n2", withContainer), dead,
		statetest.Task("t4", "web", 3, "n1", withContainer), // its container is gone
		statetest.Task("t5", "web", 4, ""), statetest.Task("t6", "web", 5, "n1", statetest.Observed(taskstate.Preparing)),
	)
	n.set("c-t1", fixed(line(stdcopy.Stdout, 1, "", "one"), line(stdcopy.Stderr, 2, "", "oops")))
	n.set("c-t2", fixed(line(stdcopy.Stdout, 1, "a=b,z=1", "two words")))
	n.set("c-t3", fixed(line(stdcopy.Stdout, 1, "com.docker.swarm.task.id=forged", "dead")))
	w := get(server(store, n), "/services/web/logs?stdout=1&stderr=1&details=1&timestamps=1&tail=5")
	out, errs, err := demux(t, w.Body)
	of := func(node, task string) string {
		return "com.docker.swarm.node.id=" + node + ",com.docker.swarm.service.id=web,com.docker.swarm.task.id=" + task
	}
	want := []string{
		at(1) + " a=b," + of("n2", "t2") + ",z=1 two words",
		at(1) + " " + of("n1", "t1") + " one",
		at(1) + " " + of("n3", "t3") + " dead",
	}
	if !slices.Equal(out, want) || err != nil || errs[0] != at(2)+" "+of("n1", "t1")+" oops" {
		t.Errorf("out %q\nerr %q\n%v", out, errs, err)
	}
	if kind := w.Header().Get("Content-Type"); kind != "application/vnd.docker.multiplexed-stream" {
		t.Errorf("content type %q", kind)
	}
	if len(n.asked) != 4 || !strings.Contains(n.asked[0], "details=1&stderr=1&stdout=1&tail=5&timestamps=1") {
		t.Errorf("asked %q", n.asked)
	}
}

func TestLogsWithoutTimesAndDetails(t *testing.T) {
	store, n := world(statetest.Task("t1", "web", 1, "n1", withContainer))
	n.set("c-t1", fixed(line(stdcopy.Stdout, 1, "-", "one")))
	out, _, err := demux(t, get(server(store, n), "/tasks/t1/logs?stdout=1").Body)
	if !slices.Equal(out, []string{"one"}) || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func TestLogsOfTerminalsAreRaw(t *testing.T) {
	service, revision := statetest.Service("tty", 1, func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.TTY = true })
	store, n := world()
	store.Put(service, revision, statetest.Task("t1", "tty", 1, "n1", withContainer))
	long := strings.Repeat("x", 3*readSize)
	n.set("c-t1", fixed([]byte(at(1)+" "+long+"\r\n"+at(2)+" two\r\n")))
	w := get(server(store, n), "/services/tty/logs?stdout=1&stderr=1")
	if got := w.Body.String(); got != long+"\r\ntwo\r\n" || w.Header().Get("Content-Type") != "application/vnd.docker.raw-stream" {
		t.Errorf("%d bytes, %v", len(got), w.Header())
	}
}

func TestLogsTellWhatIsMissing(t *testing.T) {
	store, n := world(
		statetest.Task("t1", "web", 1, "n1", withContainer), statetest.Task("t2", "web", 2, "n2", withContainer),
		statetest.Task("t3", "web", 3, "n2", withContainer), statetest.Task("t4", "web", 4, "n3", withContainer), statetest.Task("t5", "web", 5, ""),
	)
	down := func(context.Context, url.Values) (io.ReadCloser, error) {
		return nil, errdefs.ErrUnavailable.WithMessage("node n2 cannot be reached: it is down")
	}
	n.set("c-t1", fixed(line(stdcopy.Stdout, 1, "-", "one")))
	n.set("c-t2", down)
	n.set("c-t3", down)
	n.set("c-t4", fixed(line(stdcopy.Stdout, 1, "-", "four"), []byte{1, 0, 0, 0, 0}))
	out, _, err := demux(t, get(server(store, n), "/services/web/logs?stdout=1").Body)
	if !slices.Equal(out, []string{"four", "one"}) || err == nil || !strings.Contains(err.Error(), "warning: incomplete log stream. some logs could not be retrieved for the following reasons: ") ||
		strings.Count(err.Error(), "node n2 cannot be reached: it is down") != 1 || !strings.Contains(err.Error(), "node n3 was lost: unexpected EOF") {
		t.Errorf("%q, %v", out, err)
	}
	_, _, err = demux(t, get(server(store, n), "/tasks/t5/logs?stdout=1").Body)
	if err == nil || !strings.Contains(err.Error(), "task t5 has not been scheduled") {
		t.Errorf("a task without a node: %v", err)
	}
}

func TestLogsRefuse(t *testing.T) {
	store, n := world()
	for path, want := range map[string]string{
		"/services/web/logs":                          `400 {"message":"Bad parameters: you must choose at least one stream"}`,
		"/services/none/logs?stdout=1":                `404 {"message":"service none not found"}`,
		"/tasks/none/logs?stdout=1":                   `404 {"message":"task none not found"}`,
		"/services/web/logs?stdout=1&tail=x":          `500 {"message":"tail value must be a positive integer or \"all\""}`,
		"/services/web/logs?stdout=1&tail=-1":         `500 {"message":"negative tail values not supported"}`,
		"/services/web/logs?stdout=1&since=yesterday": `400 {"message":"invalid value for \"since\": `,
		"/services/web/logs?stdout=1&until=x":         `400 {"message":"invalid value for \"until\": `,
	} {
		w := get(server(store, n), path)
		if got := fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String())); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// following is a request whose answer is read as it comes, in a bubble.
type following struct {
	cancel context.CancelFunc
	ended  bool
	mu     sync.Mutex
	out    bytes.Buffer
}

func (f *following) Header() http.Header { return http.Header{} }
func (f *following) WriteHeader(int)     {}
func (f *following) FlushError() error   { return nil }
func (f *following) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.Write(p)
}

func (f *following) text() string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.String()
}

func follow(h http.Handler, path string) *following {
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{cancel: cancel}
	r := httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx)
	go func() {
		h.ServeHTTP(f, r)
		f.ended = true
	}()
	synctest.Wait()
	return f
}

func TestFollowTakesNewTasksFromTheirBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, n := world(statetest.Task("t1", "web", 1, "n1", withContainer))
		r1, w1 := io.Pipe()
		n.set("c-t1", live(r1))
		f := follow(server(store, n), "/services/web/logs?stdout=1&follow=1&tail=0")
		_, _ = w1.Write(line(stdcopy.Stdout, 1, "-", "one"))
		r2, w2 := io.Pipe()
		n.set("c-t2", live(r2))
		store.Put(statetest.Task("t2", "web", 2, "n2", withContainer))
		time.Sleep(quiet + time.Millisecond) // virtual
		_, _ = w2.Write(line(stdcopy.Stdout, 1, "-", "two"))
		if got := f.text(); !strings.Contains(got, "one\n") || !strings.Contains(got, "two\n") {
			t.Errorf("%q", got)
		}
		if len(n.asked) != 2 || !strings.Contains(n.asked[0], "tail=0") || !strings.Contains(n.asked[1], "tail=all") {
			t.Errorf("asked %q", n.asked)
		}
		f.cancel()
		synctest.Wait()
		if !f.ended {
			t.Error("it does not end with its client")
		}
	})
}

// TestFollowGoesOnAfterANodeWasLost: one warning, and not a line twice.
func TestFollowGoesOnAfterANodeWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, n := world(statetest.Task("t1", "web", 1, "n1", withContainer), statetest.Task("t2", "web", 2, "n2", withContainer))
		r1, w1 := io.Pipe()
		n.set("c-t1", live(r1))
		r2, w2 := io.Pipe()
		n.set("c-t2", live(r2))
		f := follow(server(store, n), "/services/web/logs?stdout=1&stderr=1&follow=1&details=1")
		_, _ = w1.Write(line(stdcopy.Stdout, 1, "", "before"))
		n.set("c-t1", func(context.Context, url.Values) (io.ReadCloser, error) {
			return nil, errors.New("node n1 cannot be reached: it is down")
		})
		w1.CloseWithError(errors.New("connection lost"))
		time.Sleep(time.Minute) // virtual
		_, _ = w2.Write(line(stdcopy.Stdout, 3, "", "meanwhile"))
		r1, w1 = io.Pipe()
		n.set("c-t1", live(r1))
		time.Sleep(10 * time.Second) // virtual
		_, _ = w1.Write(line(stdcopy.Stdout, 4, "", "after"))
		f.text()
		out, errs, err := demux(t, &f.out)
		if len(out) != 3 || err != nil || len(errs) != 1 || !strings.Contains(errs[0], "task.id=t1 warning: the log of web.1.t1 on node n1 breaks off here: node n1 was lost") {
			t.Errorf("out %q\nerr %q\n%v", out, errs, err)
		}
		if last := n.asked[len(n.asked)-1]; !strings.Contains(last, "since=1795651201.000000001") || !strings.Contains(last, "tail=all") {
			t.Errorf("asked %q", last)
		}
		f.cancel()
		synctest.Wait()
	})
}

func TestFollowEndsWithItsTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task := statetest.Task("t1", "web", 1, "n1", withContainer)
		store, n := world(task)
		r, w := io.Pipe()
		n.set("c-t1", live(r))
		f := follow(server(store, n), "/tasks/t1/logs?stdout=1&follow=1")
		_, _ = w.Write(line(stdcopy.Stdout, 1, "-", "one"))
		n.set("c-t1", fixed())
		w.Close()
		synctest.Wait()
		if f.ended {
			t.Error("it ends before the task")
		}
		store.Put(statetest.Task("t1", "web", 1, "n1", withContainer, statetest.Observed(taskstate.Complete)))
		time.Sleep(10 * time.Second) // virtual
		if synctest.Wait(); !f.ended {
			t.Error("it does not end with the task")
		}
	})
}

func TestFollowEndsAtUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, n := world(statetest.Task("t1", "web", 1, "n1", withContainer))
		r, _ := io.Pipe()
		n.set("c-t1", live(r))
		f := follow(server(store, n), fmt.Sprintf("/services/web/logs?stdout=1&follow=1&until=%d", time.Now().Add(time.Minute).Unix()))
		time.Sleep(time.Minute + time.Second) // virtual
		if synctest.Wait(); !f.ended {
			t.Error("it does not end")
		}
	})
}

// TestSlowReaderHoldsAllLogsBack: what nobody reads is not read from the nodes.
func TestSlowReaderHoldsAllLogsBack(t *testing.T) {
	store, n := world(statetest.Task("t1", "web", 1, "n1", withContainer), statetest.Task("t2", "web", 2, "n2", withContainer))
	taken := make(chan int, 1000)
	endless := func(ctx context.Context, _ url.Values) (io.ReadCloser, error) {
		piece := line(stdcopy.Stdout, 1, "-", strings.Repeat("x", 1000))
		return io.NopCloser(readerFunc(func(p []byte) (int, error) {
			n := 0
			for n+len(piece) <= len(p) {
				n += copy(p[n:], piece)
			}
			taken <- n
			return n, ctx.Err()
		})), nil
	}
	n.set("c-t1", endless)
	n.set("c-t2", endless)
	stuck, release := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server(store, n).ServeHTTP(&slow{to: release}, httptest.NewRequest(http.MethodGet, "/services/web/logs?stdout=1&follow=1", nil).WithContext(ctx))
	}()
	sum := 0
	for idle := false; !idle; {
		select {
		case n := <-taken:
			sum += n
		case <-time.After(200 * time.Millisecond):
			idle = true
		}
	}
	if sum == 0 || sum > 8*(batchSize+readSize) {
		t.Errorf("%d bytes were taken from the nodes", sum)
	}
	cancel()
	stuck.Close()
	<-ended
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type slow struct{ to io.Writer }

func (*slow) Header() http.Header           { return http.Header{} }
func (*slow) WriteHeader(int)               {}
func (*slow) FlushError() error             { return nil }
func (s *slow) Write(p []byte) (int, error) { return s.to.Write(p) }

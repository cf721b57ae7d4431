package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"go.uber.org/goleak"

	"shoal/worker/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon answers on a socket as an engine with an API version would.
type daemon struct {
	*http.ServeMux
	socket string
	server *http.Server
	served chan struct{}
}

func newDaemon(t *testing.T, socket, version string) *daemon {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{ServeMux: http.NewServeMux(), socket: socket, served: make(chan struct{})}
	d.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", version) })
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(d.served)
		_ = d.server.Serve(l) // ends with the test
	}()
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) stop() {
	_ = d.server.Close() // twice is fine
	<-d.served
}

func dial(t *testing.T, socket string) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Config{Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEngineThatIsNotThereIsUnavailable(t *testing.T) {
	e := dial(t, filepath.Join(t.TempDir(), "none.sock"))
	ctx := t.Context()
	_, describe := e.Describe(ctx)
	_, version := e.APIVersion(ctx)
	_, image := e.Image(ctx, "x")
	_, create := e.Create(ctx, engine.Spec{Config: &container.Config{Image: "x"}})
	_, inspect := e.Inspect(ctx, "x")
	_, list := e.List(ctx, "a", "b")
	for call, err := range map[string]error{
		"describe": describe, "version": version, "image": image, "create": create, "inspect": inspect, "list": list,
		"pull": e.Pull(ctx, "x", "", "", nil), "start": e.Start(ctx, "x"), "stop": e.Stop(ctx, "x", engine.StopOptions{}),
		"remove": e.Remove(ctx, "x"), "watch": e.Watch(ctx, "a", "b", func(engine.Event) { t.Error("event from nowhere") }),
	} {
		if !errdefs.IsUnavailable(err) {
			t.Errorf("%s: %v, want unavailable", call, err)
		}
	}
}

func TestBadHostIsRefused(t *testing.T) {
	if _, err := engine.New(engine.Config{Host: "nonsense"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("engine at nonsense: %v", err)
	}
}

// TestUpgradedEngineIsAskedAgain: a client negotiates once and only downwards.
func TestUpgradedEngineIsAskedAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "engine.sock")
	e := dial(t, socket)
	for _, version := range []string{"1.41", "1.47", "1.44"} {
		d := newDaemon(t, socket, version)
		d.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/events") {
				http.NotFound(w, r)
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // the client sees to its own end
			<-r.Context().Done()
		})
		resyncs := 0
		err := e.Watch(t.Context(), "a", "b", func(ev engine.Event) {
			if ev.Resync {
				resyncs++
				go d.stop()
			}
		})
		if !errdefs.IsUnavailable(err) || resyncs != 1 {
			t.Errorf("watch of %s: %v after %d resyncs", version, err, resyncs)
		}
		d.stop()
		d = newDaemon(t, socket, version)
		if got, err := e.APIVersion(t.Context()); err != nil || got != version {
			t.Errorf("version %q, err %v; want %s", got, err, version)
		}
		d.stop()
	}
}

func TestPullTellsWhenTheRegistryAnswersAndWhy(t *testing.T) {
	d := newDaemon(t, filepath.Join(t.TempDir(), "engine.sock"), "1.41")
	var auth string
	d.HandleFunc("/v1.41/images/create", func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("X-Registry-Auth")
		fmt.Fprintln(w, `{"status":"Pulling from app"}`)
		if r.URL.Query().Get("tag") == "bad" {
			fmt.Fprintln(w, `{"errorDetail":{"message":"no space left"},"error":"no space left"}`)
		}
	})
	e := dial(t, d.socket)
	answers := 0
	if err := e.Pull(t.Context(), "reg.example/app:good", "c2VjcmV0", "", func() { answers++ }); err != nil || answers != 1 || auth != "c2VjcmV0" {
		t.Errorf("pull: %v, answers %d, auth %q", err, answers, auth)
	}
	if err := e.Pull(t.Context(), "reg.example/app:bad", "", "", nil); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("pull that breaks off: %v", err)
	}
}

func TestErrorsReadAsTheEngineSaidThem(t *testing.T) {
	d := newDaemon(t, filepath.Join(t.TempDir(), "engine.sock"), "1.41")
	d.HandleFunc("/v1.41/containers/x/start", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"message":"it is odd"}`)
	})
	err := dial(t, d.socket).Start(t.Context(), "x")
	if !errdefs.IsConflict(err) || err.Error() != "it is odd" {
		t.Errorf("start: %v, want the engine's words and a conflict", err)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	d := newDaemon(t, filepath.Join(t.TempDir(), "engine.sock"), "1.41")
	d.HandleFunc("/v1.41/events", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the client sees to its own end
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := dial(t, d.socket).Watch(ctx, "a", "b", func(engine.Event) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("watch: %v, want canceled", err)
	}
}

package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestErrorsHaveDockersStatus(t *testing.T) {
	for kind, want := range map[error]int{
		errdefs.ErrInvalidArgument: 400, errdefs.ErrFailedPrecondition: 400, errdefs.ErrOutOfRange: 400,
		errdefs.ErrUnauthenticated: 401, errdefs.ErrPermissionDenied: 403, errdefs.ErrNotFound: 404,
		errdefs.ErrAlreadyExists: 409, errdefs.ErrConflict: 409, errdefs.ErrNotImplemented: 501, errdefs.ErrUnavailable: 503,
		errdefs.ErrUnknown: 500, errdefs.ErrAborted: 500, errdefs.ErrInternal: 500, context.DeadlineExceeded: 500, errors.New("plain"): 500,
	} {
		w := httptest.NewRecorder()
		api.WriteError(w, fmt.Errorf("a <b> & c: %w", kind))
		if w.Code != want || !strings.HasPrefix(w.Body.String(), `{"message":"a <b> & c: `) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: %d %s, want %d", kind, w.Code, w.Body, want)
		}
	}
}

func TestSplitVersion(t *testing.T) {
	for path, want := range map[string][2]string{
		"/services":             {"", "/services"},
		"/v1.24/services":       {"1.24", "/services"},
		"/v1.47/services/v1.2":  {"1.47", "/services/v1.2"},
		"/v1.41/":               {"1.41", "/"},
		"/volumes/x":            {"", "/volumes/x"},
		"/version":              {"", "/version"},
		"/v1.x/services":        {"", "/v1.x/services"},
		"/v./services":          {"", "/v./services"},
		"/v1.2.3.4/services":    {"", "/v1.2.3.4/services"},
		"/v/services":           {"", "/v/services"},
		"/v1.30/containers/a/b": {"1.30", "/containers/a/b"},
	} {
		version, rest, err := api.SplitVersion(path)
		if version != want[0] || rest != want[1] || err != nil {
			t.Errorf("split %s: %q, %q, %v; want %q", path, version, rest, err, want)
		}
	}
	for _, path := range []string{"/v1.23/x", "/v0.1/x", "/v1.52/x", "/v2/x", "/v9999.9999/x"} {
		if _, _, err := api.SplitVersion(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("split %s: %v, want a refusal", path, err)
		}
	}
}

func TestVersionOfARequest(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	if v := api.Version(r); v != api.MaxVersion {
		t.Errorf("version of a bare path is %s", v)
	}
	if v := api.Version(r.WithContext(api.WithVersion(r.Context(), "1.30"))); v != "1.30" {
		t.Errorf("version is %s, want 1.30", v)
	}
}

func TestStoreErrorsReachTheClient(t *testing.T) {
	h := newHarness(t)
	h.store.Fail(fmt.Errorf("this manager does not lead: %w", errdefs.ErrUnavailable))
	status, text := h.call("POST", "/services/create", webSpec("web", 1))
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "this manager does not lead") {
		t.Errorf("create without a leader: %d %s", status, text)
	}
}

func TestReadsAreLinearizable(t *testing.T) {
	stale := fmt.Errorf("no leader: %w", errdefs.ErrUnavailable)
	a, err := api.New(api.Config{Store: statetest.New(), Linearizable: func(context.Context) (*state.View, error) { return nil, stale }})
	if err != nil {
		t.Fatal(err)
	}
	handler := serve(a)
	for _, route := range a.Routes() {
		if route.Write || strings.Contains(route.Pattern, "secrets") || strings.Contains(route.Pattern, "configs") ||
			route.Pattern == "/swarm/unlockkey" {
			continue // answered without the state
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(route.Method, strings.ReplaceAll(route.Pattern, "{id}", "x"), nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d, want 503: it read a state that may be stale", route.Method, route.Pattern, w.Code)
		}
	}
}

func TestConcurrentCreatesOfOneName(t *testing.T) {
	h := newHarness(t)
	var wg sync.WaitGroup
	codes := make(chan int, 16)
	for range cap(codes) {
		wg.Go(func() {
			status, _ := h.serve("POST", "/services/create", `{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"web:1"}}}`)
			codes <- status
		})
	}
	wg.Wait()
	close(codes)
	count := map[int]int{}
	for c := range codes {
		count[c]++
	}
	if count[http.StatusCreated] != 1 || count[http.StatusConflict] != 15 {
		t.Errorf("answers: %v, want one 201 and 15 409", count)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	a, err := api.New(api.Config{Store: statetest.New(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	handler := serve(a)
	for _, path := range []string{"/services", "/services", "/services/nope"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "shoal_api_requests_total" {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	want := map[string]float64{"GET /services 200": 2, "GET /services/{id} 404": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if _, err := api.New(api.Config{Store: statetest.New(), Registerer: reg}); err == nil {
		t.Error("a second API on one registry: no error")
	}
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("an API without a store: no error")
	}
}

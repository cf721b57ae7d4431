package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/raftstore/state/statetest"
)

// FuzzServiceCreate: any body is refused in Docker's form with nothing
// changed, or accepted; then its spec is stored in a form that posting it
// again does not change.
func FuzzServiceCreate(f *testing.F) {
	for _, spec := range []swarm.ServiceSpec{webSpec("web", 1), fullSpec(), {}} {
		raw, err := json.Marshal(spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, c := range badSpecs() {
		spec := webSpec("bad", 1)
		c.change(&spec)
		if raw, err := json.Marshal(spec); err == nil {
			f.Add(raw)
		}
	}
	f.Add([]byte(`{"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"a","Hostname":"{{join \"\" .Task.ID \"x\"}}"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := newHarness(t)
		status, answer := h.serve("POST", "/services/create", string(body))
		if status != http.StatusCreated {
			swarms := strings.Contains(answer, "constraint") || strings.Contains(answer, `{"message":"network `) // it says 500, too
			if status == http.StatusInternalServerError && !swarms || !strings.HasPrefix(answer, `{"message":"`) || h.store.Updates() != 0 {
				t.Errorf("%d %s after %d updates", status, answer, h.store.Updates())
			}
			return
		}
		var created swarm.ServiceCreateResponse
		if err := json.Unmarshal([]byte(answer), &created); err != nil {
			t.Fatal(err)
		}
		s := h.store.View().Service(created.ID)
		raw, err := json.Marshal(s.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := h.serve("POST", "/services/"+s.ID+"/update?version="+s.Version.String(), string(raw)); status != http.StatusOK {
			t.Fatalf("posted again: %d %s", status, answer)
		}
		if diff := cmp.Diff(s.Spec, h.store.View().Service(s.ID).Spec); diff != "" {
			t.Errorf("posting a stored spec again changed it (-stored +again):\n%s", diff)
		}
	})
}

// serve answers a request without a network.
func (h *harness) serve(method, path, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.server.Config.Handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// FuzzFilters: any filter gives a list or a refusal.
func FuzzFilters(f *testing.F) {
	for _, s := range []string{``, `{}`, `null`, `{"name":["a"]}`, `{"name":{"a":true,"b":false}}`, `{"label":["a=b","="]}`, `{"service":["web"]}`, `{"desired-state":["",  "x"]}`, `[`, `{"id":["",  "t"]}`, `{"name":null}`} {
		f.Add(s)
	}
	web, webRev := statetest.Service("web", 1)
	h := newHarness(f, web, webRev, statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1"))
	f.Fuzz(func(t *testing.T, text string) {
		for _, path := range []string{"/services", "/nodes", "/tasks", "/secrets", "/configs"} {
			status, answer := h.serve("GET", path+"?filters="+url.QueryEscape(text), "")
			var list []json.RawMessage
			switch {
			case status == http.StatusOK && json.Unmarshal([]byte(answer), &list) == nil:
			case status >= 400 && strings.HasPrefix(answer, `{"message":"`):
			default:
				t.Errorf("%s with %q: %d %s", path, text, status, answer)
			}
		}
	})
}

// FuzzValueCreate: any body of a secret or config is refused in Docker's form
// with nothing changed, or stored as it came; and no secret is read back.
func FuzzValueCreate(f *testing.F) {
	for _, s := range []string{
		`{"Name":"db","Data":"eA=="}`, `{"Name":"db","Data":"e3sueH19","Templating":{"Name":"golang"}}`, `{"Name":"db","Data":"e3s=","Templating":{"Name":"golang"}}`,
		`{"Name":"db@1","Data":"eA=="}`, `{"Name":"db","Labels":{"":"x"},"Data":"eA=="}`, `{"Name":"db","Driver":{"Name":"x"}}`, `null`, `{"Data":3}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{"secrets", "configs"} {
			h := newHarness(t)
			status, answer := h.serve("POST", "/"+kind+"/create", string(body))
			if status != http.StatusCreated {
				if status >= 500 && status != http.StatusNotImplemented || !strings.HasPrefix(answer, `{"message":"`) || h.store.Updates() != 0 {
					t.Errorf("%s: %d %s after %d updates", kind, status, answer, h.store.Updates())
				}
				continue
			}
			var created swarm.SecretCreateResponse
			if err := json.Unmarshal([]byte(answer), &created); err != nil {
				t.Fatal(err)
			}
			status, answer = h.serve("GET", "/"+kind+"/"+created.ID, "")
			var back swarm.Secret
			if err := json.Unmarshal([]byte(answer), &back); status != http.StatusOK || err != nil {
				t.Fatalf("%d %s", status, answer)
			}
			if hidden := back.Spec.Data == nil; hidden != (kind == "secrets") {
				t.Errorf("%s: data hidden: %v", kind, hidden)
			}
		}
	})
}

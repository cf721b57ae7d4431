package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// BenchmarkServiceCreate is a create without consensus.
func BenchmarkServiceCreate(b *testing.B) {
	h := newHarness(b)
	for i := 0; b.Loop(); i++ {
		raw, err := json.Marshal(webSpec(fmt.Sprintf("web%d", i), 1))
		if err != nil {
			b.Fatal(err)
		}
		if status, text := h.serve("POST", "/services/create", string(raw)); status != http.StatusCreated {
			b.Fatal(status, text)
		}
	}
}

func BenchmarkServiceList(b *testing.B) {
	for _, n := range []int{300, 5000} {
		var objs []state.Object
		for i := range n {
			s, r := statetest.Service(fmt.Sprintf("s%05d", i), 2, func(s *swarm.ServiceSpec) {
				name := s.Name
				*s = fullSpec()
				s.Name = name
			})
			objs = append(objs, s, r, statetest.Task(fmt.Sprintf("t%05da", i), s.ID, 1, "n1"), statetest.Task(fmt.Sprintf("t%05db", i), s.ID, 2, "n1"))
		}
		h := newHarness(b, objs...)
		for name, path := range map[string]string{"all": "/services", "status": "/services?status=true", "name": `/services?filters={"name":["s00007"]}`, "id": `/services?filters={"id":["s00007"]}`} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) { benchmarkGet(b, h, path) })
		}
	}
}

func BenchmarkTaskList(b *testing.B) {
	const services, replicas = 1000, 100
	objs := []state.Object{statetest.Node("n1"), statetest.Node("n2")}
	for i := range services {
		s, r := statetest.Service(fmt.Sprintf("s%05d", i), replicas)
		objs = append(objs, s, r)
		for j := range replicas {
			objs = append(objs, statetest.Task(fmt.Sprintf("t%05d%03d", i, j), s.ID, j+1, []string{"n1", "n2"}[min(1, j)]))
		}
	}
	h := newHarness(b)
	h.store.Put(objs...)
	for name, path := range map[string]string{
		"progress of a service": `/tasks?filters={"service":["s00007"],"_up-to-date":["true"]}`, "node": `/tasks?filters={"node":["n1"]}`,
		"name": `/tasks?filters={"name":["s00007.3."]}`, "desired state": `/tasks?filters={"desired-state":["shutdown"]}`, "id": `/tasks?filters={"id":["t00007003"]}`,
	} {
		b.Run(name, func(b *testing.B) { benchmarkGet(b, h, path) })
	}
}

func benchmarkGet(b *testing.B, h *harness, path string) {
	path = strings.ReplaceAll(path, `"`, "%22")
	var w sink
	for b.Loop() {
		w = sink{header: http.Header{}}
		h.server.Config.Handler.ServeHTTP(&w, httptest.NewRequest("GET", path, nil))
		if w.status > http.StatusOK {
			b.Fatal(w.status)
		}
	}
	b.ReportMetric(float64(w.size), "bytes")
}

// sink is a response that only counts: a recorder would cost more than lists.
type sink struct {
	header       http.Header
	status, size int
}

func (s *sink) Header() http.Header    { return s.header }
func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(p []byte) (int, error) {
	s.size += len(p)
	return len(p), nil
}

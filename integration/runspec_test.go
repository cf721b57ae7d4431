package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
)

// post sends what Docker's client has no words for.
func (m *machine) post(path string, body any) {
	m.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, "http://shoal"+path, bytes.NewReader(raw))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.api.HTTPClient().Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		m.t.Fatalf("POST %s: %d %s", path, resp.StatusCode, text)
	}
}

// What docker run can say reaches the engines, and survives a client that does
// not know it; a gentle drain of a node never has fewer containers than asked.
func TestRunSpecReachesTheContainers(t *testing.T) {
	c := form(t, 1, 2)
	via := c.machines[0]
	via.post("/services/create", struct {
		swarm.ServiceSpec
		Run *runspec.Spec
	}{spec("web", 4, "serve"), &runspec.Spec{Privileged: true, ShmSize: 1 << 27, Pull: runspec.PullNever}})
	check := func(when string) {
		t.Helper()
		c.converged(via, "web", 4)
		for _, m := range c.machines {
			for _, running := range m.running() {
				if s, ok := m.engine.Spec(running.ID); ok && (!s.HostConfig.Privileged || s.HostConfig.ShmSize != 1<<27) {
					t.Errorf("%s: %s is made of %+v", when, running.Name, s.HostConfig)
				}
			}
		}
	}
	check("created")
	update(t, via.api, "web", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Env = []string{"A=1"}
		s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 0, FailureAction: "pause", Order: "stop-first"}
	})
	waitFor(t, "the update", func() (string, bool) {
		s, _, err := via.api.ServiceInspectWithRaw(t.Context(), "web", swarm.ServiceInspectOptions{})
		if err != nil || s.UpdateStatus == nil {
			return fmt.Sprint(err), false
		}
		return s.UpdateStatus.Message, s.UpdateStatus.CompletedAt != nil
	})
	check("updated by a stock client")

	worker := c.machines[2]
	node, _, err := via.api.NodeInspectWithRaw(t.Context(), worker.id())
	if err != nil {
		t.Fatal(err)
	}
	node.Spec.Availability = swarm.NodeAvailabilityDrain
	via.post(fmt.Sprintf("/nodes/%s/update?version=%d&startFirst=true", node.ID, node.Version.Index), node.Spec)
	waitFor(t, "an empty node", func() (string, bool) {
		left, all := len(worker.running()), len(c.containers("web"))
		if all < 4 {
			t.Fatalf("%d containers while the node is drained", all)
		}
		return fmt.Sprintf("%d of %d left", left, all), left == 0
	})
	check("drained")
}

package integration

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"shoal/overlay/check"
)

func (m *machine) examine() check.Diagnosis {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://shoal/shoal/v1/doctor", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := m.api.HTTPClient().Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	var d check.Diagnosis
	if err := json.NewDecoder(response.Body).Decode(&d); err != nil || response.StatusCode != http.StatusOK {
		m.t.Fatalf("%s: %v", response.Status, err)
	}
	return d
}

func TestDoctorAsksEveryNode(t *testing.T) {
	c := form(t, 2, 1)
	for _, via := range c.machines[:2] { // the leader and another manager
		d := via.examine()
		if len(d.Nodes) != 3 || len(d.Pairs) != 6 {
			t.Errorf("%d nodes, %d pairs: %+v", len(d.Nodes), len(d.Pairs), d)
		}
		for _, n := range d.Nodes {
			if !n.Reached || n.Checks == 0 || n.Offset.Abs() > time.Second {
				t.Errorf("node %+v", n)
			}
		}
		for _, p := range d.Pairs {
			if p.RTT <= 0 || p.Error != "" || p.From == p.To {
				t.Errorf("pair %+v", p)
			}
		}
	}
	gone := c.machines[2]
	gone.stop()
	d := c.machines[0].examine()
	for _, f := range d.Findings {
		if f.Node == gone.name && f.Check == "reachable" && f.Level == check.Bad {
			return
		}
	}
	t.Errorf("nothing is said of the node that is away: %+v", d.Findings)
}

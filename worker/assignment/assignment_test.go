package assignment

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
)

// Lines that version 1 has sent. A later version must read them, and must not
// write the same meaning in another way: the other end may be older.
const (
	oldHello    = `{"hello":{"version":1,"description":{"Hostname":"h","Platform":{},"Resources":{},"Engine":{},"TLSInfo":{}},"boot":"b","addr":":2377","index":7,"managed":["t1"]}}`
	oldStatuses = `{"statuses":[{"taskID":"t1","status":{"state":"running","at":"2026-11-01T00:00:00Z","containerID":"c","pid":9}}],"seq":3}`
	oldDown     = `{"welcome":{"version":1,"managerID":"m1","heartbeat":1000000000},"full":true,"index":9,` +
		`"specs":[{"serviceID":"s1","revision":2,"serviceLabels":{"a":"b"},"task":{"ForceUpdate":1},"hostPorts":[{"TargetPort":80}],"registryAuth":"x"}],` +
		`"tasks":[{"id":"t1","serviceID":"s1","serviceName":"web","revision":2,"slot":1,"desired":"running","status":{"state":"assigned"}}],` +
		`"remove":["t2"],"ack":3,"managers":[{"nodeID":"m1","addr":"10.0.0.1:2377"}],"gossipKeys":["a2V5"],"role":"manager"}`
	oldValues = `{"index":10,"values":[{"id":"v1","template":true,"data":"eA=="}],"forget":["v2"]}`
	oldHas    = `{"hello":{"version":1,"description":{"Platform":{},"Resources":{},"Engine":{},"TLSInfo":{}},"boot":"b","index":0,"values":["v1"]}}`
)

func TestLinesOfVersion1(t *testing.T) {
	check[Up](t, "hello", oldHello, Up{Hello: &Hello{
		Version: Version, Description: swarm.NodeDescription{Hostname: "h"}, Boot: "b", Addr: ":2377", Index: 7, Managed: []string{"t1"},
	}})
	check[Up](t, "statuses", oldStatuses, Up{Seq: 3, Statuses: []StatusUpdate{{TaskID: "t1", Status: taskstate.Status{
		State: taskstate.Running, At: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), ContainerID: "c", PID: 9,
	}}}})
	check[Up](t, "heartbeat up", `{}`, Up{})
	check[Down](t, "heartbeat down", `{}`, Down{})
	check[Down](t, "values", oldValues, Down{Index: 10, Values: []Value{{ID: "v1", Template: true, Data: Data("x")}}, Forget: []string{"v2"}})
	check[Up](t, "hello with values", oldHas, Up{Hello: &Hello{Version: Version, Boot: "b", Values: []string{"v1"}}})
	check[Down](t, "down", oldDown, Down{
		Welcome: &Welcome{Version: Version, ManagerID: "m1", Heartbeat: time.Second}, Full: true, Index: 9,
		Specs: []Spec{{
			ServiceID: "s1", Revision: 2, ServiceLabels: map[string]string{"a": "b"}, Task: swarm.TaskSpec{ForceUpdate: 1},
			HostPorts: []swarm.PortConfig{{TargetPort: 80}}, RegistryAuth: "x",
		}},
		Tasks: []Task{{
			ID: "t1", ServiceID: "s1", ServiceName: "web", Revision: 2, Slot: 1, Desired: taskstate.Running,
			Status: taskstate.Status{State: taskstate.Assigned},
		}},
		Remove: []string{"t2"}, Ack: 3, Managers: []Manager{{NodeID: "m1", Addr: "10.0.0.1:2377"}},
		GossipKeys: [][]byte{[]byte("key")}, Role: swarm.NodeRoleManager,
	})
}

// check reads a line, and writes what it means.
func check[T any](t *testing.T, name, line string, want T) {
	t.Helper()
	var got T
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s read (-want +got):\n%s", name, diff)
	}
	written, err := json.Marshal(want)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if diff := cmp.Diff(line, string(written)); diff != "" {
		t.Errorf("%s written (-want +got):\n%s", name, diff)
	}
}

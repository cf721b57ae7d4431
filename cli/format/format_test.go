package format

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/overlay/check"
)

// golden compares got with testdata/name.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const digest = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func port(published, target uint32, protocol, mode string) swarm.PortConfig {
	return swarm.PortConfig{PublishedPort: published, TargetPort: target, Protocol: swarm.PortConfigProtocol(protocol), PublishMode: swarm.PortConfigPublishMode(mode)}
}

func testServices() []swarm.Service {
	n := uint64(3)
	service := func(name string, m swarm.ServiceMode, st *swarm.ServiceStatus, ports ...swarm.PortConfig) swarm.Service {
		s := swarm.Service{ID: "id-of-" + name + "-0123456789012", ServiceStatus: st}
		s.Spec.Name, s.Spec.Mode = name, m
		s.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Image: "registry.example.com/web:1.2" + digest}
		s.Endpoint.Ports = ports
		return s
	}
	replicated := swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}}
	limited := service("web2", replicated, &swarm.ServiceStatus{RunningTasks: 2, DesiredTasks: 3})
	limited.Spec.TaskTemplate.Placement = &swarm.Placement{MaxReplicas: 2}
	return []swarm.Service{
		service("web10", replicated, &swarm.ServiceStatus{RunningTasks: 3, DesiredTasks: 3},
			port(81, 8081, "tcp", "ingress"), port(80, 8080, "tcp", "ingress"), port(90, 80, "tcp", "ingress"), port(91, 80, "tcp", "ingress"),
			port(53, 53, "udp", "ingress"), port(22, 22, "tcp", "host")),
		limited,
		service("agent", swarm.ServiceMode{Global: &swarm.GlobalService{}}, &swarm.ServiceStatus{RunningTasks: 5, DesiredTasks: 5}),
		service("job", swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{TotalCompletions: &n}}, &swarm.ServiceStatus{RunningTasks: 1, DesiredTasks: 2, CompletedTasks: 1}),
		service("gjob", swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}, &swarm.ServiceStatus{DesiredTasks: 1, CompletedTasks: 4}),
		service("unknown", swarm.ServiceMode{}, nil),
	}
}

func TestServiceList(t *testing.T) {
	for name, tt := range map[string]struct {
		format       string
		quiet, trunc bool
	}{
		"service-table":    {"", false, true},
		"service-no-trunc": {"", false, false},
		"service-quiet":    {"", true, true},
		"service-json":     {"json", false, true},
		"service-template": {`{{.Name}}\t{{upper .Mode}}`, false, true},
		"service-columns":  {`table {{.Name}}\t{{json .Replicas}}`, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := Write(&out, Services(), tt.format, tt.quiet, ServiceRows(testServices(), tt.trunc)); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func TestEmptyTableHasHeadings(t *testing.T) {
	var out bytes.Buffer
	if err := Write(&out, Services(), "", false, ServiceRows(nil, true)); err != nil {
		t.Fatal(err)
	}
	if want := "ID        NAME      MODE      REPLICAS   IMAGE     PORTS\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestWriteRefusesUnknownFields(t *testing.T) {
	err := Write(new(bytes.Buffer), Services(), "{{.Nope}}", false, ServiceRows(testServices(), true))
	if err == nil || !strings.HasPrefix(err.Error(), "template parsing error: ") {
		t.Errorf("got %v", err)
	}
}

func TestTaskList(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	task := func(id string, slot int, node string, age time.Duration, state, desired swarm.TaskState, errText string) swarm.Task {
		tk := swarm.Task{ID: id + "0123456789012345678901234", ServiceID: "s1", Slot: slot, NodeID: node, DesiredState: desired}
		tk.CreatedAt = now.Add(-age)
		tk.Spec.ContainerSpec = &swarm.ContainerSpec{Image: "nginx:1" + digest}
		tk.Status = swarm.TaskStatus{State: state, Timestamp: now.Add(-age), Err: errText}
		return tk
	}
	tasks := []swarm.Task{
		task("e", 10, "n1", time.Hour, "running", "running", ""),
		task("a", 2, "n1", time.Hour, "failed", "shutdown", "task: non-zero exit (137): out of memory"),
		task("b", 2, "n2", time.Minute, "running", "running", ""),
		task("c", 2, "n2", 2*time.Hour, "rejected", "shutdown", "No such image: nginx:1"),
		task("d", 0, "n1", 10*time.Second, "pending", "running", "no suitable node (insufficient memory on 2 nodes)"),
	}
	tasks[0].Status.PortStatus.Ports = []swarm.PortConfig{port(32768, 80, "tcp", "host"), port(32769, 443, "tcp", "host")}
	view := func(trunc, indent bool) TaskView {
		return TaskView{
			Trunc: trunc, Indent: indent, Now: now,
			Service: func(string) string { return "web" }, Node: func(id string) string { return "host-" + id },
		}
	}
	for name, tt := range map[string]struct {
		format string
		quiet  bool
		view   TaskView
	}{
		"task-table":    {"", false, view(true, true)},
		"task-no-trunc": {"", false, view(false, true)},
		"task-quiet":    {"", true, view(false, false)},
		"task-json":     {"json", false, view(true, false)},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := Write(&out, Tasks(), tt.format, tt.quiet, TaskRows(tasks, tt.view)); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func testNode() swarm.Node {
	n := swarm.Node{ID: "n1xxxxxxxxxxxxxxxxxxxxxxx"}
	n.Spec.Name, n.Spec.Labels = "one", map[string]string{"zone": "a", "ssd": ""}
	n.Spec.Role, n.Spec.Availability = "manager", "active"
	n.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	n.Description = swarm.NodeDescription{
		Hostname: "host1", Platform: swarm.Platform{Architecture: "x86_64", OS: "linux"},
		Resources: swarm.Resources{NanoCPUs: 4e9, MemoryBytes: 8 << 30},
		Engine: swarm.EngineDescription{
			EngineVersion: "28.5.2", Labels: map[string]string{"disk": "fast"},
			Plugins: []swarm.PluginDescription{{Type: "Volume", Name: "local"}, {Type: "Log", Name: "json-file"}, {Type: "Log", Name: "none"}},
		},
		TLSInfo: swarm.TLSInfo{TrustRoot: "-----BEGIN CERTIFICATE-----", CertIssuerSubject: []byte("subject"), CertIssuerPublicKey: []byte("key")},
	}
	n.Status = swarm.NodeStatus{State: "ready", Addr: "192.0.2.1", Message: "heartbeat is late"}
	n.ManagerStatus = &swarm.ManagerStatus{Leader: true, Reachability: "reachable", Addr: "192.0.2.1:2377"}
	return n
}

func TestNodeList(t *testing.T) {
	one := testNode()
	two := swarm.Node{ID: "n2xxxxxxxxxxxxxxxxxxxxxxx"}
	two.Description.Hostname, two.Status.State, two.Spec.Availability = "host2", "down", "drain"
	ten := swarm.Node{ID: "n3xxxxxxxxxxxxxxxxxxxxxxx", ManagerStatus: &swarm.ManagerStatus{Reachability: "unreachable"}}
	ten.Description.Hostname, ten.Status.State, ten.Spec.Availability = "host10", "unknown", "pause"
	ten.Description.TLSInfo.TrustRoot = "other"
	cluster := &swarm.ClusterInfo{TLSInfo: one.Description.TLSInfo}
	for name, format := range map[string]string{"node-table": "", "node-json": "json", "node-tls": `table {{.Hostname}}\t{{.TLSStatus}}`} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := Write(&out, Nodes(), format, false, NodeRows([]swarm.Node{ten, two, one}, one.ID, cluster)); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func TestPrettyNode(t *testing.T) {
	var out bytes.Buffer
	PrettyNode(&out, testNode())
	golden(t, "node-pretty", out.String())
}

func TestPrettyService(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	began, ended := now.Add(-2*time.Minute), now.Add(-time.Minute)
	noInit := false
	s := testServices()[0]
	s.Spec.Labels = map[string]string{"team": "shop", "flag": ""}
	s.UpdateStatus = &swarm.UpdateStatus{State: "completed", StartedAt: &began, CompletedAt: &ended, Message: "update completed"}
	s.Spec.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Delay: time.Second, FailureAction: "pause", Monitor: 5 * time.Second, Order: "stop-first"}
	s.Spec.RollbackConfig = &swarm.UpdateConfig{Parallelism: 1, FailureAction: "pause", MaxFailureRatio: 0.5, Order: "start-first"}
	s.Spec.EndpointSpec = &swarm.EndpointSpec{Mode: "vip"}
	s.Spec.TaskTemplate = swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{
			Image: "nginx:1" + digest, Args: []string{"sh", "-c", "date"}, Env: []string{"A=1", "B=2"}, Dir: "/srv", Init: &noInit, User: "www",
			CapabilityAdd: []string{"CAP_NET_ADMIN"}, CapabilityDrop: []string{"ALL"}, Sysctls: map[string]string{"net.core.somaxconn": "1024"},
			Ulimits:     []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			Mounts:      []mount.Mount{{Type: "volume", Source: "data", Target: "/data", ReadOnly: true}},
			Configs:     []*swarm.ConfigReference{{ConfigName: "conf", File: &swarm.ConfigReferenceFileTarget{Name: "/conf"}}},
			Secrets:     []*swarm.SecretReference{{SecretName: "key", File: &swarm.SecretReferenceFileTarget{Name: "key"}}},
			Healthcheck: &container.HealthConfig{Test: []string{"CMD-SHELL", "true"}, Interval: time.Second, Retries: 3},
		},
		LogDriver: &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "10m"}},
		Resources: &swarm.ResourceRequirements{Limits: &swarm.Limit{NanoCPUs: 5e8, MemoryBytes: 1 << 30, Pids: 100}, Reservations: &swarm.Resources{MemoryBytes: 1 << 20}},
		Networks:  []swarm.NetworkAttachmentConfig{{Target: "net1"}},
		Placement: &swarm.Placement{Constraints: []string{"node.role==worker"}, MaxReplicas: 2, Preferences: []swarm.PlacementPreference{{Spread: &swarm.SpreadOver{SpreadDescriptor: "node.labels.zone"}}}},
	}
	var out bytes.Buffer
	PrettyService(&out, s, now, func(id string) string { return "front-" + id })
	golden(t, "service-pretty", out.String())
	out.Reset()
	PrettyService(&out, swarm.Service{ID: "s"}, now, nil) // nothing set: no panic
}

func TestInspect(t *testing.T) {
	objects := []Object{{Typed: testNode(), Raw: []byte(`{"ID":"n1","Extra":{"x":"<1>"}}`)}, {Typed: swarm.Node{ID: "n2"}}}
	var out bytes.Buffer
	if err := Inspect(&out, "", objects[:1]); err != nil || out.String() != "[\n    {\n        \"ID\": \"n1\",\n        \"Extra\": {\n            \"x\": \"<1>\"\n        }\n    }\n]\n" {
		t.Errorf("indented: %q, %v", out.String(), err)
	}
	out.Reset()
	if err := Inspect(&out, "{{.ID}}", objects); err != nil || out.String() != "n1xxxxxxxxxxxxxxxxxxxxxxx\nn2\n" {
		t.Errorf("template: %q, %v", out.String(), err)
	}
	out.Reset()
	if err := Inspect(&out, "{{.Extra.x}}", objects[:1]); err != nil || out.String() != "<1>\n" {
		t.Errorf("template on raw fields: %q, %v", out.String(), err)
	}
	if err := Inspect(&out, "{{.Extra.x}}", objects); err == nil {
		t.Error("a field that is nowhere is accepted")
	}
	out.Reset()
	if err := Inspect(&out, "json", nil); err != nil || out.String() != "[]\n" {
		t.Errorf("nothing: %q, %v", out.String(), err)
	}
}

func TestWhy(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, w := range map[string]Why{
		"why": {
			Kind: "task", ID: "t1xxxxxxxxxxxxxxxxxxx", Name: "web.1", State: "pending", DesiredState: "running",
			Cause: "no node has 4 GiB to spare", Evidence: []string{"host1: 1 GiB free", "host2: down"}, Fix: "add memory, or lower --reserve-memory",
		},
		"why-fixes": {
			Kind: "task", ID: "t1xxxxxxxxxxxxxxxxxxx", Name: "web.1", State: "pending", DesiredState: "running",
			Cause: "no node can take it", Evidence: []string{"node h1 lacks a label"}, Fix: "docker node update", Fixes: []string{"docker node update", "docker service update", "join a node"},
		},
		"why-container": {
			Kind: "service", ID: "s1xxxxxxxxxxxxxxxxxxx", Name: "web", State: "0 of 1 running", DesiredState: "1 running",
			Cause: "task web.1.t2: restarting in 12s \x1b[2J(restart 5)", Evidence: []string{"ready: 1"}, Fix: "see what its health check said",
			Container: &Testimony{
				Task: "web.1.t1", Output: []string{"listening", "\x1b[31mpanic\x1b[0m: no database"}, Missing: []string{"what came before"},
				Health: []Checkup{
					{At: now.Add(-time.Minute), ExitCode: -1, Output: "Health check exceeded timeout (3s)", Times: 3},
					{At: now.Add(-5 * time.Second), ExitCode: 7, Output: "* Trying 127.0.0.1:80\ncurl: (7) Failed to connect"},
				},
			},
		},
		"why-silent": {Kind: "task", ID: "t1", Name: "web.1", State: "failed", Cause: "it failed", Container: &Testimony{Task: "web.1.t1"}},
		"why-lost": {
			Kind: "task", ID: "t1", Name: "web.1", State: "failed", Cause: "it failed",
			Container: &Testimony{Task: "web.1.t1", Missing: []string{"node h2 cannot be reached: it is down"}},
		},
	} {
		var out bytes.Buffer
		WriteWhy(&out, w, now)
		golden(t, name, out.String())
	}
}

func TestNaturalLess(t *testing.T) {
	for _, pair := range [][2]string{{"web2", "web10"}, {"a", "b"}, {"web", "web1"}, {"web.2", "web.10"}, {"a1b2", "a1b10"}, {"x7", "x07"}, {"", "a"}, {"web9", "weba"}} {
		if !NaturalLess(pair[0], pair[1]) || NaturalLess(pair[1], pair[0]) {
			t.Errorf("%q should come before %q", pair[0], pair[1])
		}
	}
	if NaturalLess("web1", "web1") {
		t.Error("equal strings are not less")
	}
}

func testFindings() []check.Finding {
	return []check.Finding{
		{Check: "kernel", Level: check.OK, Detail: "bridge, veth, vxlan"},
		{Check: "clock", Level: check.Warn, Detail: "nobody keeps the time of this host right", Remedy: "run chrony"},
		{Check: "port 4789/udp", Level: check.Bad, Detail: "for VXLAN: held by flanneld (pid 12)", Remedy: "stop what holds it"},
	}
}

func TestFindings(t *testing.T) {
	var out bytes.Buffer
	if err := WriteFindings(&out, testFindings()); err != nil {
		t.Fatal(err)
	}
	golden(t, "findings", out.String())
}

func TestDiagnosis(t *testing.T) {
	d := check.Diagnosis{
		Nodes: []check.NodeHealth{
			{NodeID: "a", Name: "host1", Reached: true, Offset: -3 * time.Millisecond, Audited: true, Compared: 120, Checks: 9},
			{NodeID: "b", Name: "host2", Reached: true, Offset: 1500 * time.Millisecond, Audited: true, Compared: 80, Differences: []string{"route 10.0.1.0/24 missing"}, Checks: 9},
			{NodeID: "c", Name: "host3"},
			{NodeID: "d", Name: "host4", Reached: true, Checks: 3},
		},
		Pairs: []check.Pair{
			{From: "host1", To: "host2", RTT: 1234 * time.Microsecond, MTU: 1500, MeshRTT: 300 * time.Microsecond, MeshMTU: 1450, HasMesh: true},
			{From: "host1", To: "host3", HasMesh: true, Error: "timeout"},
			{From: "host1", To: "host4", RTT: time.Millisecond, MTU: 1500},
		},
		Findings: []check.NodeFinding{{Node: "host3", Finding: check.Finding{Check: "reachable", Level: check.Bad, Detail: "the leader does not reach 192.0.2.3:2377", Remedy: "see that the node is up"}}},
	}
	for _, f := range testFindings()[1:] {
		d.Findings = append(d.Findings, check.NodeFinding{Node: "host2", Finding: f})
	}
	var out bytes.Buffer
	if err := WriteDiagnosis(&out, d); err != nil {
		t.Fatal(err)
	}
	out.WriteString("-- a cluster of one node that is well --\n")
	if err := WriteDiagnosis(&out, check.Diagnosis{Nodes: d.Nodes[:1]}); err != nil {
		t.Fatal(err)
	}
	golden(t, "diagnosis", out.String())
}

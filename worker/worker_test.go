package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/goleak"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/session"
)

const secret = "cmVnaXN0cnktcGFzc3dvcmQ="

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager serves sessions: it sends what is put into downs and passes on what
// workers say.
type manager struct {
	addr  string
	downs chan assignment.Down
	ups   chan assignment.Up
}

func newManager(t *testing.T) *manager {
	m := &manager{downs: make(chan assignment.Down, 10), ups: make(chan assignment.Up, 1000)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(m.serve))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	m.addr = server.Listener.Addr().String()
	return m
}

func (m *manager) serve(w http.ResponseWriter, r *http.Request) {
	send := func(d assignment.Down) {
		_ = json.NewEncoder(w).Encode(d) // a worker that is gone is the end of the test
		_ = http.NewResponseController(w).Flush()
	}
	send(assignment.Down{Welcome: &assignment.Welcome{Version: assignment.Version, Heartbeat: time.Second}})
	lines := make(chan assignment.Up)
	go func() {
		defer close(lines)
		dec := json.NewDecoder(r.Body)
		for {
			var up assignment.Up
			if dec.Decode(&up) != nil {
				return
			}
			lines <- up
		}
	}()
	for {
		select {
		case d := <-m.downs:
			send(d)
		case up, ok := <-lines:
			if !ok {
				return
			}
			m.ups <- up
			send(assignment.Down{Ack: up.Seq})
		}
	}
}

// until reads what the worker says until its task is in state.
func (m *manager) until(t *testing.T, taskID string, state taskstate.State) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case up := <-m.ups:
			for _, s := range up.Statuses {
				if s.TaskID == taskID && s.Status.State == state {
					return
				}
			}
		case <-timeout:
			t.Fatalf("task %s did not come to %s", taskID, state)
		}
	}
}

func config(t *testing.T, dir string, fake *engine.Fake, m *manager) Config {
	c := Config{
		Dir: dir, FileDir: filepath.Join(dir, "files"), Key: bytes.Repeat([]byte{7}, 32), NodeID: "node1", ClusterID: "cluster1", Engine: fake,
		Session: session.Config{Boot: "boot1"}, Log: slog.New(slog.DiscardHandler),
	}
	c.Session.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("no manager") }
	if m != nil {
		c.Session.Managers = func() []assignment.Manager { return []assignment.Manager{{NodeID: "m1", Addr: m.addr}} }
		c.Session.Dial = nil
	}
	return c
}

// run runs a worker and returns what ends it.
func run(t *testing.T, c Config) (w *Worker, halt func()) {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Run(ctx)
	}()
	return w, func() { cancel(); <-ended }
}

func down(id string, desired taskstate.State) assignment.Down {
	return assignment.Down{
		Full: true, Index: 7,
		Specs: []assignment.Spec{{
			ServiceID: "svc", Revision: 1, RegistryAuth: secret,
			Task: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "probe"}},
		}},
		Tasks: []assignment.Task{{
			ID: id, ServiceID: "svc", ServiceName: "web", Revision: 1, Slot: 1, Desired: desired,
			Status: taskstate.Status{State: taskstate.Assigned},
		}},
	}
}

func TestWorkerCarriesOutAndRemembers(t *testing.T) {
	dir, fake, m := filepath.Join(t.TempDir(), "worker"), engine.NewFake("probe"), newManager(t)
	w, halt := run(t, config(t, dir, fake, m))
	m.downs <- down("t1", taskstate.Running)
	m.until(t, "t1", taskstate.Running)
	if index, ids := w.held.index(); index != 7 || len(ids) != 1 {
		t.Errorf("held up to %d: %v", index, ids)
	}
	halt()
	file, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, []byte(secret)) || bytes.Contains(file, []byte("probe")) {
		t.Error("assignments are on disk in the clear")
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, fileName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, err %v; want %v", path, info.Mode(), err, mode)
		}
	}

	// In its next life no manager answers.
	again, err := New(config(t, dir, fake, nil))
	if err != nil {
		t.Fatal(err)
	}
	tasks := again.held.tasks()
	if len(tasks) != 1 || tasks[0].Spec == nil || tasks[0].Spec.RegistryAuth != "" || tasks[0].Status.State != taskstate.Running {
		t.Errorf("remembered: %+v", tasks)
	}
	if index, _ := again.held.index(); index != 0 {
		t.Errorf("asks to resume at %d, want everything", index)
	}
	if err := Purge(t.Context(), "", fake, again.cfg.ClusterID, again.cfg.FileDir); err != nil || len(fake.Containers()) != 0 {
		t.Errorf("purge: %v, left %v", err, fake.Containers())
	}
}

func TestCredentialsAreKeptWhileATaskHasToPull(t *testing.T) {
	for state, want := range map[taskstate.State]string{taskstate.Preparing: secret, taskstate.Ready: secret, taskstate.Running: "", taskstate.Rejected: ""} {
		d := down("t1", taskstate.Running)
		d.Tasks = append(d.Tasks, d.Tasks[0])
		d.Tasks[0].ID, d.Tasks[0].Status.State = "t0", taskstate.Running
		d.Tasks[1].Status.State = state
		spent := d.Specs[0]
		spent.RegistryAuth = "" // t0 came without
		d.Tasks[0].Spec, d.Tasks[1].Spec = &spent, &d.Specs[0]
		h := newHeld(memory{})
		h.apply(d)
		if m := h.memory(); len(m.Specs) != 1 || m.Specs[0].RegistryAuth != want || d.Specs[0].RegistryAuth != secret {
			t.Errorf("beside a task that is %s goes to disk %+v", state, m.Specs)
		}
	}
}

func TestWorkerStartsWithoutManagers(t *testing.T) {
	dir, fake := t.TempDir(), engine.NewFake("probe")
	c := config(t, dir, fake, nil)
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	d := down("t1", taskstate.Running)
	d.Tasks[0].Spec = &d.Specs[0]
	w.held.apply(d)
	w.save()

	watched := startWatch{Fake: fake, started: make(chan struct{}, 1)}
	c.Engine = watched
	_, halt := run(t, c)
	defer halt()
	select {
	case <-watched.started:
	case <-time.After(20 * time.Second):
		t.Errorf("containers: %+v, want a running one", fake.Containers())
	}
}

// startWatch tells when a container was started.
type startWatch struct {
	*engine.Fake
	started chan struct{}
}

func (s startWatch) Start(ctx context.Context, id string) error {
	defer func() { s.started <- struct{}{} }()
	return s.Fake.Start(ctx, id)
}

func TestWorkerForgetsWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	c := config(t, dir, engine.NewFake("probe"), nil)
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.held.apply(down("t1", taskstate.Running))
	w.save()
	good, err := os.ReadFile(w.vault.path())
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, raw := range map[string][]byte{"cut": good[:20], "flipped": flipped, "empty": {}, "foreign": []byte("hello")} {
		if err := os.WriteFile(w.vault.path(), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := New(c)
		if err != nil || len(again.held.tasks()) != 0 {
			t.Errorf("%s file: err %v", name, err)
		}
	}
	if err := os.WriteFile(w.vault.path(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	c.NodeID = "another"
	if again, err := New(c); err != nil || len(again.held.tasks()) != 0 {
		t.Errorf("file of another node: err %v", err)
	}
	c.Key = []byte("short")
	if _, err := New(c); err == nil {
		t.Error("a key of 5 bytes was accepted")
	}
}

func TestHeldAppliesLines(t *testing.T) {
	h := newHeld(memory{})
	spec := &assignment.Spec{ServiceID: "svc", Revision: 1}
	task := func(id string, spec *assignment.Spec, desired taskstate.State) assignment.Task {
		return assignment.Task{ID: id, ServiceID: "svc", Revision: 1, Desired: desired, Spec: spec}
	}
	if _, complete := h.apply(assignment.Down{Tasks: []assignment.Task{task("a", spec, taskstate.Running)}}); complete {
		t.Error("complete without a full line")
	}
	all, complete := h.apply(assignment.Down{Full: true, Index: 3, Tasks: []assignment.Task{task("a", nil, taskstate.Running), task("b", spec, taskstate.Running)}})
	if !complete || len(all) != 2 || all[0].Spec != spec {
		t.Errorf("after a full line: %+v, complete %v; want both, with specs", all, complete)
	}
	h.setStatus("a", taskstate.Status{State: taskstate.Running})
	all, _ = h.apply(assignment.Down{Index: 4, Remove: []string{"b"}, Tasks: []assignment.Task{task("c", spec, taskstate.Ready)}})
	if len(all) != 2 || all[0].Status.State != taskstate.Running || all[1].ID != "c" {
		t.Errorf("after a diff: %+v", all)
	}
	all, _ = h.apply(assignment.Down{Full: true, Index: 5})
	if len(all) != 0 {
		t.Errorf("after an empty full line: %+v", all)
	}
}

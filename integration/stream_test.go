package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	eventtypes "github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/stdcopy"

	"shoal/worker/engine"
)

// fakeStreams are the calls about one container that the engine of a machine
// answers: its log names the machine, and an exec echoes.
type fakeStreams struct {
	name   string
	engine *engine.Fake
}

func (f *fakeStreams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1.41")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "events" {
		f.events(w, r)
		return
	}
	if parts[0] == "exec" {
		f.exec(w, r, parts[1], parts[2])
		return
	}
	c := f.find(parts[1])
	if c == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"No such container: %s"}`, parts[1])
		return
	}
	switch parts[2] {
	case "json":
		state := map[string]any{"Pid": 1, "OOMKilled": c.OOMKilled}
		if s, _ := f.engine.Spec(c.ID); s.Config != nil && s.Config.Healthcheck != nil {
			state["Health"] = container.Health{Status: container.Unhealthy, Log: []*container.HealthcheckResult{{ExitCode: 1, Output: "sick on " + f.name}}}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Id": c.ID, "Name": "/" + c.Name, "Config": map[string]any{"Labels": c.Labels}, "State": state})
	case "exec":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"Id":"e%s"}`, c.ID)
	case "logs":
		out := stdcopy.NewStdWriter(w, stdcopy.Stdout)
		fmt.Fprintf(out, "%s %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z"), "said by "+f.name)
		if r.URL.Query().Get("follow") != "" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	case "top":
		fmt.Fprintf(w, `{"Titles":["CMD"],"Processes":[["%s"]]}`, f.name)
	}
}

func (f *fakeStreams) find(ref string) *engine.Container {
	for _, c := range f.engine.Containers() {
		if c.ID == ref || c.Name == ref {
			return &c
		}
	}
	return nil
}

func (f *fakeStreams) exec(w http.ResponseWriter, r *http.Request, id, action string) {
	if action == "json" {
		fmt.Fprintf(w, `{"ID":%q,"ContainerID":%q,"ExitCode":7}`, id, strings.TrimPrefix(id, "e"))
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	said, _ := io.ReadAll(buffered)
	_, _ = fmt.Fprintf(stdcopy.NewStdWriter(conn, stdcopy.Stdout), "%s heard %s", f.name, said)
}

// events tells once of each container.
func (f *fakeStreams) events(w http.ResponseWriter, r *http.Request) {
	for _, c := range f.engine.Containers() {
		_ = json.NewEncoder(w).Encode(eventtypes.Message{
			Type: eventtypes.ContainerEventType, Action: eventtypes.ActionStart, TimeNano: time.Now().UnixNano(),
			Actor: eventtypes.Actor{ID: c.ID, Attributes: c.Labels},
		})
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// runningTasks are those of a service, once there are n that run.
func (m *machine) runningTasks(service string, n int) (tasks []swarm.Task) {
	m.t.Helper()
	waitFor(m.t, fmt.Sprint(n, " tasks of ", service), func() (string, bool) {
		all, err := m.api.TaskList(m.t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", service))})
		tasks = slices.DeleteFunc(all, func(t swarm.Task) bool { return t.Status.State != swarm.TaskStateRunning })
		return fmt.Sprint(len(tasks), err), len(tasks) == n
	})
	return tasks
}

// elsewhere is a task that runs on another machine, and that machine.
func (c *cluster) elsewhere(via *machine, tasks []swarm.Task) (swarm.Task, *machine) {
	c.t.Helper()
	for _, m := range c.machines {
		for _, t := range tasks {
			if m != via && t.NodeID == m.id() {
				return t, m
			}
		}
	}
	c.t.Fatal("all tasks run on " + via.name)
	return swarm.Task{}, nil
}

func logsOf(t *testing.T, body io.ReadCloser, err error) (lines []string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, body); err != nil {
		t.Error(err)
	}
	lines = strings.Split(strings.TrimSpace(out.String()), "\n")
	slices.Sort(lines)
	return lines
}

func TestStreamsReachTasksOnAllNodesFromAnyManager(t *testing.T) {
	c := form(t, 2, 1)
	create(t, c.machines[0].api, spec("web", 3, "serve"))
	tasks := c.machines[0].runningTasks("web", 3)
	for _, via := range c.machines[:2] { // the leader and another manager
		body, err := via.api.ServiceLogs(t.Context(), "web", container.LogsOptions{ShowStdout: true})
		if got, want := logsOf(t, body, err), []string{"said by h1", "said by h2", "said by h3"}; !slices.Equal(got, want) {
			t.Errorf("via %s: logs %q", via.name, got)
		}
		task, at := c.elsewhere(via, tasks)
		name := fmt.Sprintf("web.%d", task.Slot)
		for _, ref := range []string{task.Status.ContainerStatus.ContainerID, task.Status.ContainerStatus.ContainerID[:12], name + "." + task.ID, name, task.ID} {
			top, err := via.api.ContainerTop(t.Context(), ref, nil)
			if err != nil || top.Processes[0][0] != at.name {
				t.Errorf("top %s via %s: %v %v", ref, via.name, top, err)
			}
		}
		body, err = via.api.ContainerLogs(t.Context(), name, container.LogsOptions{ShowStdout: true})
		if got := logsOf(t, body, err); len(got) != 1 || !strings.HasSuffix(got[0], "said by "+at.name) {
			t.Errorf("logs of %s via %s: %q", name, via.name, got)
		}
		via.execElsewhere(name, at)
	}
	worker := c.machines[2]
	if _, err := worker.api.ServiceLogs(t.Context(), "web", container.LogsOptions{ShowStdout: true}); err == nil || !strings.Contains(err.Error(), "Worker nodes can't be used to view") {
		t.Errorf("logs of a worker: %v", err)
	}
	task, _ := c.elsewhere(worker, tasks)
	if _, err := worker.api.ContainerTop(t.Context(), task.Status.ContainerStatus.ContainerID, nil); err == nil || !strings.Contains(err.Error(), "No such container") {
		t.Errorf("top via a worker: %v", err)
	}
}

func (m *machine) execElsewhere(ref string, at *machine) {
	m.t.Helper()
	exec, err := m.api.ContainerExecCreate(m.t.Context(), ref, container.ExecOptions{Cmd: []string{"cat"}, AttachStdin: true, AttachStdout: true})
	if err != nil {
		m.t.Fatal(err)
	}
	stream, err := m.api.ContainerExecAttach(m.t.Context(), exec.ID, container.ExecAttachOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	defer stream.Close()
	fmt.Fprint(stream.Conn, "hello")
	_ = stream.CloseWrite()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, stream.Reader); err != nil || out.String() != at.name+" heard hello" {
		m.t.Errorf("exec on %s via %s: %q, %v", at.name, m.name, out.String(), err)
	}
	if after, err := m.api.ContainerExecInspect(m.t.Context(), exec.ID); err != nil || after.ExitCode != 7 {
		m.t.Errorf("exec on %s via %s: %+v, %v", at.name, m.name, after, err)
	}
}

func TestLogsOfALostNodeCostAWarning(t *testing.T) {
	c := form(t, 1, 2)
	via, gone := c.machines[0], c.machines[2]
	create(t, via.api, spec("web", 3, "serve"))
	via.runningTasks("web", 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	followed, err := via.api.ServiceLogs(ctx, "web", container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer followed.Close()
	gone.stop()
	out, warned := &lines{}, &lines{found: make(chan string, 10), want: "breaks off here: node h3"}
	go func() { _, _ = stdcopy.StdCopy(out, warned, followed) }() // ends with the body
	select {
	case <-warned.found:
	case <-time.After(patience):
		t.Error("no warning while it is followed")
	}
	body, err := via.api.ServiceLogs(t.Context(), "web", container.LogsOptions{ShowStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	var all bytes.Buffer
	_, err = stdcopy.StdCopy(&all, io.Discard, body)
	if err == nil || !strings.Contains(err.Error(), "incomplete log stream") || !strings.Contains(err.Error(), "node h3 cannot be reached") || strings.Count(all.String(), "said by h") < 2 {
		t.Errorf("%q, %v", all.String(), err)
	}
}

// lines passes on those that have want in them.
type lines struct {
	want  string
	found chan string
}

func (l *lines) Write(p []byte) (int, error) {
	if l.found != nil && strings.Contains(string(p), l.want) {
		select {
		case l.found <- string(p):
		default:
		}
	}
	return len(p), nil
}

func TestEventsOfContainersOfAllNodes(t *testing.T) {
	c := form(t, 2, 1)
	create(t, c.machines[0].api, spec("web", 3, "serve"))
	c.machines[0].runningTasks("web", 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told, failed := c.machines[1].api.Events(ctx, eventtypes.ListOptions{Filters: filters.NewArgs(filters.Arg("type", "container"))})
	seen := map[string]string{}
	for len(seen) < 3 {
		select {
		case e := <-told:
			seen[e.Actor.Attributes["node.name"]] = e.Actor.Attributes["node.id"]
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(patience):
			t.Fatalf("only events of %v", seen)
		}
	}
	for _, m := range c.machines {
		if seen[m.name] != m.id() {
			t.Errorf("events of %v, want those of %s", seen, m.name)
		}
	}
}

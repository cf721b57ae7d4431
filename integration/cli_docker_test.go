//go:build docker

package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// TestCommandLines forms a cluster with the docker command line, works on it
// with both, and takes it apart again.
func TestCommandLines(t *testing.T) {
	s := newSite(t, 3)
	formWithDocker(t, s)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"nodes", nodesByDocker},
		{"services", servicesByDocker},
		{"containers of the local engine", proxied},
		{"an image is built", built},
		{"events of cluster and engine", events},
		{"pending tasks say why", pending},
		{"a bad image is rejected", badImage},
		{"a crash loop slows down", crashLoop},
		{"a port of a host", hostPort},
		{"availability", availability},
		{"leaving", leaving},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) && part.name == "nodes" {
			return
		}
	}
}

func formWithDocker(t *testing.T, s *site) {
	t.Helper()
	for _, h := range s.Hosts() {
		restartDaemon(t, h)
	}
	h1, h2, h3 := s.Host(1), s.Host(2), s.Host(3)
	said := docker(t, h1, "swarm", "init", "--advertise-addr", h1.Addr)
	if !strings.Contains(said, "docker swarm join --token SHMTKN-1-") {
		t.Errorf("init said %q", said)
	}
	docker(t, h2, "swarm", "join", "--token", docker(t, h1, "swarm", "join-token", "-q", "manager"), h1.Addr+":2377")
	docker(t, h3, "swarm", "join", "--token", docker(t, h2, "swarm", "join-token", "-q", "worker"), h2.Addr+":2377")
	s.awaitReady(t, h1, 3)
}

// columns are the headers of a table, however far apart.
func columns(table string) string {
	head, _, _ := strings.Cut(table, "\n")
	return strings.Join(regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(head), -1), "|")
}

func wantColumns(t *testing.T, what, table, want string) {
	t.Helper()
	if got := columns(table); got != want {
		t.Errorf("%s: columns %q, want %q\n%s", what, got, want, table)
	}
}

func nodesByDocker(t *testing.T, s *site) {
	h1, h3 := s.Host(1), s.Host(3)
	for _, list := range []string{docker(t, h1, "node", "ls"), shoal(t, h1, "node", "ls")} {
		wantColumns(t, "node ls", list, "ID|HOSTNAME|STATUS|AVAILABILITY|MANAGER STATUS|ENGINE VERSION")
		if strings.Count(list, "Ready") != 3 || strings.Count(list, "Active") != 3 || strings.Count(list, "Leader") != 1 || strings.Count(list, "Reachable") != 1 {
			t.Errorf("node ls:\n%s", list)
		}
	}
	if got := docker(t, h3, "info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"); got != "active false" {
		t.Errorf("info of a worker: %q", got)
	}
	if _, err := tryDocker(t, h3, "node", "ls"); err == nil || !strings.Contains(err.Error(), "This node is not a swarm manager") {
		t.Errorf("node ls on a worker: %v", err)
	}
	docker(t, h1, "node", "update", "--label-add", "disk=ssd", "h3")
	if got := docker(t, h1, "node", "inspect", "--format", "{{.Spec.Labels.disk}} {{.Description.Hostname}} {{.Spec.Role}}", "h3"); got != "ssd h3 worker" {
		t.Errorf("node inspect: %q", got)
	}
	if got := docker(t, h1, "node", "inspect", "--pretty", "self"); !strings.Contains(got, "Leader:") {
		t.Errorf("node inspect --pretty self:\n%s", got)
	}
	docker(t, h1, "node", "promote", "h3")
	waitFor(t, "h3 to be a manager", func() (string, bool) {
		list, err := tryDocker(t, h3, "node", "ls")
		return fmt.Sprint(list, err), strings.Count(list, "Reachable")+strings.Count(list, "Leader") == 3
	})
	docker(t, h3, "node", "demote", "h3")
	waitFor(t, "h3 to be a worker", func() (string, bool) {
		got, err := tryDocker(t, h3, "info", "--format", "{{.Swarm.ControlAvailable}}")
		return fmt.Sprint(got, err), got == "false"
	})
	s.awaitReady(t, h1, 3)
}

func servicesByDocker(t *testing.T, s *site) {
	h1, h2 := s.Host(1), s.Host(2)
	said := docker(t, h2, "service", "create", "--name", "web", "--replicas", "3", "--env", "VERSION=1", image)
	if !strings.Contains(said, "Service "+strings.Fields(said)[0]+" converged") {
		t.Errorf("service create said:\n%s", said)
	}
	s.converged(t, h1, "web", 3)
	for name, run := range map[string]func(testing.TB, *lab.Host, ...string) string{"docker": docker, "shoal": shoal} {
		list := run(t, h1, "service", "ls")
		wantColumns(t, name+" service ls", list, "ID|NAME|MODE|REPLICAS|IMAGE|PORTS")
		if !regexp.MustCompile(`\bweb +replicated +3/3 +web:1`).MatchString(list) {
			t.Errorf("%s service ls:\n%s", name, list)
		}
		ps := run(t, h2, "service", "ps", "web")
		wantColumns(t, name+" service ps", ps, "ID|NAME|IMAGE|NODE|DESIRED STATE|CURRENT STATE|ERROR|PORTS")
		if n := len(regexp.MustCompile(`(?m)web\.[123] +web:1 +h[123] +Running +Running .* ago`).FindAllString(ps, -1)); n != 3 {
			t.Errorf("%s service ps:\n%s", name, ps)
		}
	}
	docker(t, h1, "service", "scale", "--detach", "web=1")
	s.converged(t, h1, "web", 1)
	shoal(t, h1, "service", "scale", "--detach", "web=4")
	s.converged(t, h1, "web", 4)
	docker(t, h1, "service", "update", "--detach", "--env-add", "VERSION=2", "web")
	waitFor(t, "the update to be done", func() (string, bool) {
		state, err := tryDocker(t, h1, "service", "inspect", "--format", "{{.UpdateStatus.State}}", "web")
		return fmt.Sprint(state, err), state == "completed"
	})
	for _, task := range s.converged(t, h1, "web", 4) {
		if env := task.Spec.ContainerSpec.Env; !slices.Equal(env, []string{"VERSION=2"}) {
			t.Errorf("after the update task %s has %q", task.ID, env)
		}
	}
	if got := docker(t, h1, "service", "inspect", "--format", "{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}} {{.PreviousSpec.TaskTemplate.ContainerSpec.Env}}", "web"); got != "web 4 [VERSION=1]" {
		t.Errorf("service inspect: %q", got)
	}
	if got := docker(t, h1, "service", "inspect", "--pretty", "web"); !strings.Contains(got, "Replicas:\t4") {
		t.Errorf("service inspect --pretty:\n%s", got)
	}
	docker(t, h1, "service", "rm", "web")
	s.awaitEmpty(t, "web")
}

// awaitEmpty waits until no engine runs a container of the service.
func (s *site) awaitEmpty(t testing.TB, service string) {
	t.Helper()
	waitFor(t, "no containers of "+service, func() (string, bool) {
		ids, err := s.running(t, service, s.Hosts()...)
		return fmt.Sprint(ids, err), err == nil && len(ids) == 0
	})
}

func pending(t *testing.T, s *site) {
	h1 := s.Host(1)
	docker(t, h1, "service", "create", "--detach", "--name", "big", "--reserve-memory", "1000G", image)
	shoal(t, h1, "service", "create", "--detach", "--name", "picky", "--constraint", "node.labels.disk==tape", image)
	for service, reason := range map[string]string{
		"big":   "no suitable node (insufficient",
		"picky": "no suitable node (scheduling",
	} {
		waitFor(t, service+" to say why it is pending", func() (string, bool) {
			ps, err := tryDocker(t, h1, "service", "ps", "--no-trunc", service)
			return fmt.Sprint(ps, err), strings.Contains(ps, "Pending") && strings.Contains(ps, reason) && strings.Contains(ps, "3 nodes")
		})
		if why := shoal(t, h1, "why", service+".1"); !strings.Contains(why, "h1") {
			t.Errorf("why %s.1:\n%s", service, why)
		}
	}
	docker(t, h1, "node", "update", "--label-add", "disk=tape", "h2")
	for _, task := range s.converged(t, h1, "picky", 1) {
		if task.NodeID != s.nodeID(t, s.Host(2)) {
			t.Errorf("picky runs on %s", task.NodeID)
		}
	}
	docker(t, h1, "service", "rm", "big", "picky")
}

func badImage(t *testing.T, s *site) {
	h1 := s.Host(1)
	docker(t, h1, "service", "create", "--detach", "--no-resolve-image", "--name", "bad", "127.0.0.1:1/no/such:image")
	waitFor(t, "the task to be rejected", func() (string, bool) {
		ps, err := tryDocker(t, h1, "service", "ps", "--no-trunc", "bad")
		return fmt.Sprint(ps, err), strings.Contains(ps, "Rejected") && strings.Contains(ps, "127.0.0.1:1/no/such:image") && strings.Contains(ps, "connection refused")
	})
	docker(t, h1, "service", "rm", "bad")
}

// crashLoop watches a service whose program ends at once.
func crashLoop(t *testing.T, s *site) {
	h1 := s.Host(1)
	shoal(t, h1, "service", "create", "--detach", "--name", "crash", "--restart-delay", "100ms", image, "/bin/exit", "3")
	var failed []time.Time
	waitFor(t, "four tasks to fail", func() (string, bool) {
		tasks, err := s.shoal[h1].TaskList(t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", "crash"))})
		var saw []string
		failed = nil
		for _, task := range tasks {
			saw = append(saw, fmt.Sprint(task.Status.State, " ", task.Status.Err))
			if task.Status.State == swarm.TaskStateFailed && strings.Contains(task.Status.Err, "non-zero exit (3)") {
				failed = append(failed, task.Status.Timestamp)
			}
		}
		return fmt.Sprint(saw, err), len(failed) >= 4
	})
	slices.SortFunc(failed, time.Time.Compare)
	for i := 2; i < len(failed); i++ {
		before, after := failed[i-1].Sub(failed[i-2]), failed[i].Sub(failed[i-1])
		if after <= before {
			t.Errorf("failure %d came %v after the one before it, which took %v", i+1, after, before)
		}
	}
	waitFor(t, "why to call it a crash loop", func() (string, bool) {
		why, err := h1.Shoal(t.Context(), "why", "crash.1")
		return fmt.Sprint(why, err), strings.Contains(why, "crash loop")
	})
	shoal(t, h1, "service", "rm", "crash")
	s.awaitEmpty(t, "crash")
}

func hostPort(t *testing.T, s *site) {
	h1, h3 := s.Host(1), s.Host(3)
	shoal(t, h1, "service", "create", "--name", "port", "--publish", "mode=host,published=8000,target=8080", "--constraint", "node.hostname==h3", image)
	s.converged(t, h1, "port", 1)
	waitFor(t, "an answer on the port", func() (string, bool) {
		_, err := h1.Docker(t.Context(), "run", "--rm", image, "/bin/check", "http://"+h3.Addr+":8000")
		return fmt.Sprint(err), err == nil
	})
	if ps := docker(t, h1, "service", "ps", "port"); !strings.Contains(ps, "*:8000->8080/tcp") {
		t.Errorf("service ps does not show the port:\n%s", ps)
	}
	docker(t, h1, "service", "scale", "--detach", "port=2")
	waitFor(t, "the second task to say that the port is taken", func() (string, bool) {
		ps, err := tryDocker(t, h1, "service", "ps", "--no-trunc", "port")
		return fmt.Sprint(ps, err), strings.Contains(ps, "host-mode port already in use on 1 node")
	})
	docker(t, h1, "service", "rm", "port")
	s.awaitEmpty(t, "port")
}

func availability(t *testing.T, s *site) {
	h1, h3 := s.Host(1), s.Host(3)
	shoal(t, h1, "service", "create", "--detach", "--name", "web", "--replicas", "6", image)
	s.converged(t, h1, "web", 6)
	onH3 := func(n int) {
		t.Helper()
		waitFor(t, fmt.Sprintf("%d tasks on h3", n), func() (string, bool) {
			ids, err := s.running(t, "web", h3)
			return fmt.Sprint(ids, err), err == nil && len(ids) == n
		})
	}
	onH3(2)
	shoal(t, h1, "node", "drain", "h3")
	onH3(0)
	s.converged(t, h1, "web", 6)
	docker(t, h1, "node", "update", "--availability", "active", "h3")
	shoal(t, h1, "service", "scale", "--detach", "web=9")
	onH3(3)
	docker(t, h1, "node", "update", "--availability", "pause", "h3")
	shoal(t, h1, "service", "scale", "--detach", "web=12")
	onH3(3)
	shoal(t, h1, "node", "activate", "h3")
	s.converged(t, h1, "web", 12)
}

// leaving takes the cluster apart, with tasks on it.
func leaving(t *testing.T, s *site) {
	h1, h2, h3 := s.Host(1), s.Host(2), s.Host(3)
	docker(t, h3, "swarm", "leave")
	s.awaitDown(t, h1, h3)
	docker(t, h1, "node", "rm", "h3")
	s.converged(t, h1, "web", 12)
	if _, err := tryDocker(t, h2, "swarm", "leave"); err == nil {
		t.Error("a manager left without force")
	}
	docker(t, h1, "node", "demote", "h2")
	waitFor(t, "h2 to leave as a worker", func() (string, bool) {
		said, err := tryDocker(t, h2, "swarm", "leave")
		return fmt.Sprint(said, err), err == nil
	})
	shoal(t, h1, "leave", "--force")
	for _, h := range s.Hosts() {
		if ids := docker(t, h, "ps", "-aq", "--filter", "label=com.docker.swarm.service.id"); ids != "" {
			t.Errorf("%s left containers: %s", h.Name, ids)
		}
		if got := docker(t, h, "info", "--format", "{{.Swarm.LocalNodeState}}"); got != "inactive" {
			t.Errorf("%s is %s", h.Name, got)
		}
	}
}

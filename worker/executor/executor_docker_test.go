//go:build docker

package executor

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"golang.org/x/sync/errgroup"

	"shoal/internal/id"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/engine/enginetest"
)

// dockerRun is an executor on the real engine.
type dockerRun struct {
	t       *testing.T
	engine  *engine.Engine
	cluster string
	image   string
	x       *Executor
	halt    func()
	values  Values // nil: none
	files   Files  // nil: none

	mu      sync.Mutex
	changed chan struct{}
	seen    map[string]taskstate.Status
}

func newDockerRun(t *testing.T) *dockerRun { return newDockerRunWith(t, nil, nil) }

func newDockerRunWith(t *testing.T, values Values, files Files) *dockerRun {
	e, err := engine.New(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d := &dockerRun{
		t: t, engine: e, cluster: id.New(), image: enginetest.Image(t), values: values, files: files,
		changed: make(chan struct{}), seen: map[string]taskstate.Status{},
	}
	d.boot()
	t.Cleanup(func() {
		d.halt()
		if err := Purge(context.WithoutCancel(t.Context()), e, d.cluster); err != nil {
			t.Errorf("purge: %v", err)
		}
		e.Close()
	})
	return d
}

func (d *dockerRun) boot() {
	x, err := New(Config{Engine: d.engine, NodeID: testNode, ClusterID: d.cluster, Values: d.values, Files: d.files, Report: d.report})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	d.x, d.halt = x, func() { cancel(); <-ended }
	go func() {
		defer close(ended)
		_ = x.Run(ctx)
	}()
}

func (d *dockerRun) report(taskID string, s taskstate.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[taskID] = s
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *dockerRun) until(taskID string, state taskstate.State) taskstate.Status {
	d.t.Helper()
	timeout := time.After(time.Minute)
	for {
		d.mu.Lock()
		s, changed := d.seen[taskID], d.changed
		d.mu.Unlock()
		if s.State >= state {
			if s.State != state {
				d.t.Fatalf("task %s: %+v, want %s", taskID, s, state)
			}
			return s
		}
		select {
		case <-changed:
		case <-timeout:
			d.t.Fatalf("task %s stays: %+v, want %s", taskID, s, state)
		}
	}
}

// untilPID waits until a task runs as another process.
func (d *dockerRun) untilPID(taskID string, old int) taskstate.Status {
	d.t.Helper()
	timeout := time.After(time.Minute)
	for {
		d.mu.Lock()
		s, changed := d.seen[taskID], d.changed
		d.mu.Unlock()
		if s.State == taskstate.Running && s.PID != 0 && s.PID != old {
			return s
		}
		select {
		case <-changed:
		case <-timeout:
			d.t.Fatalf("task %s stays: %+v", taskID, s)
		}
	}
}

func (d *dockerRun) task(args ...string) assignment.Task {
	return with(aTask(id.New(), taskstate.Running, args...), func(c *swarm.ContainerSpec) { c.Image = d.image })
}

func TestDockerLifeOfATask(t *testing.T) {
	d := newDockerRun(t)
	task := with(d.task("serve"), func(c *swarm.ContainerSpec) {
		c.Env, c.Hostname = []string{"SLOT={{.Task.Slot}}"}, "{{.Service.Name}}-{{.Task.Slot}}"
		c.Mounts = []mount.Mount{{Type: mount.TypeTmpfs, Target: "/tmp", TmpfsOptions: &mount.TmpfsOptions{Mode: 0o1777}}, {Type: mount.TypeVolume, Target: "/anonymous"}}
		c.Ulimits, c.CapabilityDrop, c.Sysctls = []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}, []string{"ALL"}, map[string]string{"net.core.somaxconn": "77"}
		c.ReadOnly, c.User, c.Groups, c.StopSignal = true, "1000", []string{"2000"}, "SIGTERM"
		c.Hosts, c.DNSConfig = []string{"10.1.1.1 one uno"}, &swarm.DNSConfig{Nameservers: []string{"10.9.9.9"}, Search: []string{"example"}}
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "/probe", "check", "ok"}, Interval: 100 * time.Millisecond, Retries: 1000}
		c.Privileges, c.Labels = &swarm.Privileges{NoNewPrivileges: true}, map[string]string{"mine": "1"}
	})
	task.Spec.HostPorts = []swarm.PortConfig{{TargetPort: 80, PublishMode: swarm.PortConfigPublishModeHost}}
	task.Spec.Task.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 64 << 20, NanoCPUs: 5e8, Pids: 50}}
	task.Spec.Task.LogDriver = &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "1m"}}
	d.x.Set(set(task), true)
	s := d.until(task.ID, taskstate.Running)
	if len(s.Ports) != 1 || s.Ports[0].PublishedPort == 0 || s.PID == 0 {
		t.Errorf("running status: %+v", s)
	}

	d.halt() // the daemon goes away and comes back
	d.mu.Lock()
	delete(d.seen, task.ID)
	d.mu.Unlock()
	d.boot()
	d.x.Set(set(task), false)
	if again := d.until(task.ID, taskstate.Running); again.PID != s.PID || again.ContainerID != s.ContainerID {
		t.Errorf("adopted: %+v, want %+v", again, s)
	}

	d.x.Set(set(desired(task, taskstate.Shutdown)), true)
	if s := d.until(task.ID, taskstate.Shutdown); s.ExitCode != 0 {
		t.Errorf("shutdown: %+v", s)
	}
	d.x.Set(nil, true)
	d.untilEmpty()
}

// untilEmpty waits until the cluster has no container.
func (d *dockerRun) untilEmpty() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	err := d.engine.Watch(ctx, ClusterLabel, d.cluster, func(engine.Event) {
		if list, err := d.engine.List(ctx, ClusterLabel, d.cluster); err == nil && len(list) == 0 {
			cancel()
		}
	})
	if ctx.Err() == context.DeadlineExceeded {
		d.t.Fatalf("containers stay: %v", err)
	}
}

func TestDockerTasksThatFail(t *testing.T) {
	d := newDockerRun(t)
	exits, unhealthy, bind := d.task("exit", "3"), d.task("serve"), d.task("serve")
	unhealthy = with(unhealthy, func(c *swarm.ContainerSpec) {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "/probe", "check", "bad"}, Interval: 200 * time.Millisecond, Retries: 2}
	})
	bind = with(bind, func(c *swarm.ContainerSpec) {
		c.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: "/nothing/here", Target: "/x"}}
	})
	missing := with(d.task(), func(c *swarm.ContainerSpec) { c.Image = "127.0.0.1:1/nothing:here" })
	newer := with(d.task(), func(c *swarm.ContainerSpec) {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "x"}, StartInterval: time.Second}
	})
	d.x.Set(set(exits, unhealthy, bind, missing, newer), true)
	for id, want := range map[string]taskstate.Status{
		exits.ID:     {State: taskstate.Failed, Err: "task: non-zero exit (3)"},
		unhealthy.ID: {State: taskstate.Failed, Err: "dockerexec: unhealthy container"},
		bind.ID:      {State: taskstate.Rejected, Err: ""},
		missing.ID:   {State: taskstate.Rejected, Err: ""},
		newer.ID:     {State: taskstate.Rejected, Err: ""},
	} {
		got := d.until(id, want.State)
		t.Logf("%s: %s", got.State, got.Err)
		if got.Err == "" || want.Err != "" && got.Err != want.Err {
			t.Errorf("task ended with %q, want %q", got.Err, want.Err)
		}
	}
}

// TestDockerStartIsFast compares a task with docker run, the numbers are in
// the log.
func TestDockerStartIsFast(t *testing.T) {
	d := newDockerRun(t)
	var runs, tasks []time.Duration
	for i := range 9 {
		name := fmt.Sprintf("shoal-run-%s-%d", d.cluster, i)
		before := time.Now()
		if out, err := exec.Command("docker", "run", "-d", "--label", ClusterLabel+"="+d.cluster, "--name", name, d.image, "serve").CombinedOutput(); err != nil {
			t.Fatalf("docker run: %v: %s", err, out)
		}
		runs = append(runs, time.Since(before))
		task := d.task("serve")
		before = time.Now()
		d.x.Set(set(task), false)
		d.until(task.ID, taskstate.Running)
		tasks = append(tasks, time.Since(before))
	}
	slices.Sort(runs)
	slices.Sort(tasks)
	t.Logf("docker run: median %s of %v", runs[4], runs)
	t.Logf("task:       median %s of %v", tasks[4], tasks)
	if tasks[4] > 2*runs[4] {
		t.Errorf("a task takes %s to run, docker run %s", tasks[4], runs[4])
	}
}

// TestDockerManyTasks compares many tasks at once with the engine alone, the
// numbers are in the log.
func TestDockerManyTasks(t *testing.T) {
	d := newDockerRun(t)
	const n = 30
	var tasks []assignment.Task
	for range n {
		tasks = append(tasks, d.task("serve"))
	}
	before := time.Now()
	d.x.Set(tasks, false)
	for _, task := range tasks {
		d.until(task.ID, taskstate.Running)
	}
	took := time.Since(before)
	alone := d.startAlone(n)
	t.Logf("%d containers: engine alone %s, as tasks %s", n, alone, took)
	if took > 2*alone {
		t.Errorf("%d tasks took %s, the engine alone takes %s", n, took, alone)
	}
}

func (d *dockerRun) startAlone(n int) time.Duration {
	d.t.Helper()
	before := time.Now()
	var group errgroup.Group
	group.SetLimit(8)
	for range n {
		group.Go(func() error {
			spec, err := containerSpec(d.task("serve"), d.cluster, node(), "1.41")
			if err != nil {
				return err
			}
			id, err := d.engine.Create(d.t.Context(), spec)
			if err != nil {
				return err
			}
			return d.engine.Start(d.t.Context(), id)
		})
	}
	if err := group.Wait(); err != nil {
		d.t.Fatal(err)
	}
	return time.Since(before)
}

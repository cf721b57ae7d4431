//go:build docker

package cli

import (
	"context"
	"encoding/json"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/id"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/engine/enginetest"
	"shoal/worker/executor"
)

// runCases are flags of docker run, and what they are called on shoal service
// create where that differs.
func runCases() [][2]string {
	return [][2]string{
		{"", ""},
		{"--add-host db:192.0.2.9", "--host db:192.0.2.9"},
		{"--annotation a=b", ""},
		{"--blkio-weight 300", ""},
		{"--blkio-weight-device /dev/sda:200", ""},
		{"--cap-add NET_ADMIN --cap-drop MKNOD", ""},
		{"--cgroup-parent /shoal-test", ""},
		{"--cgroupns private", ""},
		{"--cgroupns host", ""},
		{"--cpu-period 50000 --cpu-quota 25000", ""},
		{"--cpu-quota -1", ""},
		{"--cpu-rt-period 1000000 --cpu-rt-runtime 950000", ""},
		{"--cpu-shares 512", ""},
		{"--cpus 0.5", "--limit-cpu 0.5"},
		{"--cpuset-cpus 0 --cpuset-mems 0", ""},
		{"--cpuset-cpus 9999", ""},
		{"--device /dev/null", ""},
		{"--device /dev/null:/dev/none:r --device /dev/zero:rw", ""},
		{"--device-cgroup-rule=c_1:3_rwm", ""},
		{"--device-read-bps /dev/zero:1mb --device-write-bps /dev/zero:2mb", ""},
		{"--device-read-iops /dev/zero:100 --device-write-iops /dev/zero:200", ""},
		{"--dns 192.0.2.53 --dns-option ndots:1 --dns-search example.com", ""},
		{"--domainname example.com --hostname h", ""},
		{"--expose 90-91/udp --publish-all", ""},
		{"--gpus all", ""},
		{"--gpus 2 --gpus driver=x,device=0", ""},
		{"--group-add 7 --group-add audio", ""},
		{"--init", ""},
		{"--interactive --tty", ""},
		{"--ipc host", ""},
		{"--ipc private", ""},
		{"--ipc shareable", ""},
		{"--ipc none", ""},
		{"--isolation default", ""},
		{"--kernel-memory 50m", ""},
		{"--log-driver json-file --log-opt max-size=1m", ""},
		{"--mac-address 02:42:c0:a8:00:07", ""},
		{"--memory 64m", "--limit-memory 64m"},
		{"--memory 64m --memory-swap 128m", "--limit-memory 64m --memory-swap 128m"},
		{"--memory 64m --memory-swap -1 --memory-swappiness 10", "--limit-memory 64m --memory-swap -1 --memory-swappiness 10"},
		{"--memory-reservation 32m", ""},
		{"--mount type=bind,source=/tmp,target=/t,readonly --mount type=tmpfs,target=/u,tmpfs-size=1m", ""},
		{"--network host", ""},
		{"--network none", ""},
		{"--network bridge", ""},
		{"--oom-kill-disable --oom-score-adj 500", ""},
		{"--pid host", ""},
		{"--pids-limit 10", "--limit-pids 10"},
		{"--platform linux/amd64", ""},
		{"--platform linux/s390x --pull never", ""},
		{"--privileged", ""},
		{"--publish 18080:80/tcp --publish 90/udp", "--publish mode=host,published=18080,target=80 --publish mode=host,target=90,protocol=udp"},
		{"--pull never", ""},
		{"--read-only", ""},
		{"--runtime runc", ""},
		{"--runtime no-such-runtime", ""},
		{"--security-opt no-new-privileges --security-opt label=disable", ""},
		{"--security-opt seccomp=unconfined --security-opt apparmor=unconfined", ""},
		{"--security-opt systempaths=unconfined", ""},
		{"--shm-size 32m", ""},
		{"--stop-signal SIGINT --stop-timeout 3", "--stop-signal SIGINT --stop-grace-period 3s"},
		{"--storage-opt size=1G", ""},
		{"--sysctl net.ipv4.ip_forward=0", ""},
		{"--tmpfs /run:rw,exec,size=1m --tmpfs /x", ""},
		{"--ulimit nofile=100:200", ""},
		{"--user 7:7 --workdir /", ""},
		{"--userns host", ""},
		{"--uts host", ""},
	}
}

// The same command line makes the same container, by docker create and as a
// task of a service; or the engine refuses both in the same words.
func TestTasksAreWhatDockerRunMakes(t *testing.T) {
	b := newBench(t)
	for _, c := range runCases() {
		t.Run(c[0], func(t *testing.T) {
			ours := c[1]
			if ours == "" {
				ours = c[0]
			}
			want, refusal := b.create(t, c[0])
			got, status := b.task(t, ours)
			said, byEngine := strings.CutPrefix(refusal, "Error response from daemon: ")
			switch {
			case strings.Contains(status.Err, "needs engine API"):
				t.Skip(status.Err)
			case refusal != "" && !byEngine && status.State == taskstate.Ready:
				t.Skipf("docker's client does not send it to this engine: %s", refusal)
			case refusal != "":
				if !strings.Contains(status.Err, said) {
					t.Errorf("docker says %q, the task is %s: %q", refusal, status.State, status.Err)
				}
			default:
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("task %s %s (-docker +shoal):\n%s", status.State, status.Err, diff)
				}
			}
		})
	}
}

// bench makes containers both ways.
type bench struct {
	engine  *engine.Engine
	image   string
	cluster string
}

func newBench(t *testing.T) *bench {
	e, err := engine.New(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{engine: e, image: enginetest.Image(t), cluster: id.New()}
	t.Cleanup(func() {
		if err := executor.Purge(context.WithoutCancel(t.Context()), e, b.cluster); err != nil {
			t.Errorf("purge: %v", err)
		}
		e.Close()
	})
	return b
}

// words splits a line at blanks; "_" stands for one inside of a value.
func runWords(line string) []string {
	all := strings.Fields(line)
	for i, w := range all {
		if strings.Contains(w, "rule=") {
			all[i] = strings.ReplaceAll(w, "_", " ")
		}
	}
	return all
}

// create is docker create: what the engine made of it, or why it did not.
func (b *bench) create(t *testing.T, line string) (inspected map[string]any, refusal string) {
	t.Helper()
	args := slices.Concat([]string{"create"}, runWords(line), []string{b.image, "serve"})
	out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		refusal, _, _ = strings.Cut(text, "\n")
		return nil, strings.TrimSuffix(refusal, ".")
	}
	lines := strings.Split(text, "\n") // warnings first
	name := lines[len(lines)-1]
	defer exec.Command("docker", "rm", "-f", name).Run()
	return inspect(t, name), ""
}

// task makes a task ready: of a service with these flags, without a cluster.
func (b *bench) task(t *testing.T, line string) (inspected map[string]any, last taskstate.Status) {
	t.Helper()
	statuses := make(chan taskstate.Status, 100)
	x, err := executor.New(executor.Config{
		Engine: b.engine, NodeID: "node1", ClusterID: b.cluster, Report: func(_ string, s taskstate.Status) { statuses <- s },
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	defer func() { cancel(); <-done }()
	task := assignment.Task{
		ID: id.New(), ServiceID: "svc", ServiceName: "web", Revision: 1, Slot: 1, Desired: taskstate.Ready,
		Status: taskstate.Status{State: taskstate.Assigned}, Spec: b.spec(t, line),
	}
	x.Set([]assignment.Task{task}, true)
	for last.State < taskstate.Ready {
		select {
		case last = <-statuses:
		case <-time.After(time.Minute):
			t.Fatalf("the task stays %s: %s", last.State, last.Err)
		}
	}
	if last.State != taskstate.Ready {
		return nil, last
	}
	return inspect(t, "web.1."+task.ID), last
}

func (b *bench) spec(t *testing.T, line string) *assignment.Spec {
	t.Helper()
	flags := newServiceFlags(false)
	flags.add(&values[string]{parse: func(s string) ([]string, error) {
		flags.groups.add = append(flags.groups.add, s)
		return nil, nil
	}}, "list", "group-add", "")
	words := runWords(line)
	for len(words) > 0 {
		name, val, glued := strings.Cut(strings.TrimPrefix(words[0], "--"), "=")
		words = words[1:]
		f := flags.find(name)
		switch {
		case f == nil:
			t.Fatalf("no flag --%s", name)
		case glued:
		case f.boolean:
			val = "true"
		default:
			val, words = words[0], words[1:]
		}
		if err := f.Set(val); err != nil {
			t.Fatal(err)
		}
	}
	spec := newSpec()
	spec.TaskTemplate.ContainerSpec.Init = nil // docker run leaves it to the daemon
	spec.TaskTemplate.ContainerSpec.Image, spec.TaskTemplate.ContainerSpec.Args = b.image, []string{"serve"}
	if err := flags.apply(&spec); err != nil {
		t.Fatal(err)
	}
	for _, n := range flags.networks.Value() {
		spec.TaskTemplate.Networks = append(spec.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: n.Target})
	}
	run, err := flags.applyRun(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := &assignment.Spec{ServiceID: "svc", Revision: 1, Task: spec.TaskTemplate, Run: run}
	for _, p := range spec.EndpointSpec.Ports {
		if p.PublishMode == swarm.PortConfigPublishModeHost {
			out.HostPorts = append(out.HostPorts, p)
		}
	}
	return out
}

// inspect is what the engine says of a container, without what differs between
// any two, and without what docker run writes although it means nothing.
func inspect(t *testing.T, name string) map[string]any {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", "inspect", "--type", "container", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Config     map[string]any `json:"Config"`
		HostConfig map[string]any `json:"HostConfig"`
		Platform   string         `json:"Platform"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	c, h := all[0].Config, all[0].HostConfig
	delete(h, "ConsoleSize") // of the terminal
	if h["MemorySwappiness"] == -1.0 {
		h["MemorySwappiness"] = nil
	}
	for _, field := range []string{"OomKillDisable", "PidsLimit"} {
		if h[field] == false || h[field] == 0.0 {
			h[field] = nil
		}
	}
	if mode := h["NetworkMode"]; mode == "bridge" {
		h["NetworkMode"] = "default" // that is what it is
	}
	for field, v := range h {
		switch v := v.(type) {
		case []any:
			if len(v) == 0 && field != "MaskedPaths" && field != "ReadonlyPaths" {
				h[field] = nil
			}
		case map[string]any:
			if len(v) == 0 {
				h[field] = nil
			}
		}
	}
	kept := map[string]any{"HostConfig": h, "Platform": all[0].Platform}
	for _, field := range []string{"Domainname", "ExposedPorts", "MacAddress", "OpenStdin", "StopSignal", "StopTimeout", "Tty", "User", "WorkingDir"} {
		kept[field] = c[field]
	}
	return kept
}

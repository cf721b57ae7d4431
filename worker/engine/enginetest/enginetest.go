// Package enginetest holds the tests that every engine must pass, the real one
// and the fake one, and the image that real containers run in tests.
package enginetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"

	"shoal/internal/id"
	"shoal/worker/engine"
)

// Engine is what is tested.
type Engine interface {
	Describe(ctx context.Context) (swarm.NodeDescription, error)
	APIVersion(ctx context.Context) (string, error)
	Image(ctx context.Context, ref string) (engine.Image, error)
	Pull(ctx context.Context, ref, auth, platform string, answered func()) error
	Create(ctx context.Context, s engine.Spec) (string, error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, opts engine.StopOptions) error
	Remove(ctx context.Context, id string) error
	Inspect(ctx context.Context, id string) (*engine.Container, error)
	List(ctx context.Context, label, value string) ([]engine.Summary, error)
	Watch(ctx context.Context, label, value string, notify func(engine.Event)) error

	Connect(ctx context.Context, containerID string, ep engine.Endpoint) error
	Disconnect(ctx context.Context, containerID, networkID string) error
	CreateNetwork(ctx context.Context, s engine.NetworkSpec) (string, error)
	Networks(ctx context.Context, label, value string) ([]engine.Network, error)
	InspectNetwork(ctx context.Context, id string) (*engine.Network, error)
	RemoveNetwork(ctx context.Context, id string) error
}

const label = "shoal.enginetest"

// Suite checks that e behaves as a worker expects. image is one that has the
// probe as its entrypoint.
func Suite(t *testing.T, e Engine, image string) {
	s := suite{e: e, image: image, run: id.New()}
	t.Run("describe", s.describe)
	t.Run("images", s.images)
	t.Run("life of a container", s.life)
	t.Run("exit codes", s.exitCodes)
	t.Run("grace period", s.gracePeriod)
	t.Run("health", s.health)
	t.Run("names and conflicts", s.names)
	t.Run("what is not there", s.missing)
	t.Run("ports", s.ports)
	t.Run("failed start", s.failedStart)
	t.Run("removal of what runs", s.removeRunning)
	t.Run("list", s.list)
	t.Run("watch", s.watch)
	t.Run("life of a network", s.networkLife)
	t.Run("what a network refuses", s.networkRefusals)
	t.Run("container on two networks", s.twoNetworks)
	t.Run("creation that breaks off", s.brokenCreation)
	t.Run("network that is not there", s.lostNetwork)
}

type suite struct {
	e     Engine
	image string
	run   string // value of the label, so that runs do not meet
}

// spec is a container of this run that runs the probe with args.
func (s suite) spec(args ...string) engine.Spec {
	return engine.Spec{
		Name:       "enginetest." + id.New(),
		Config:     &container.Config{Image: s.image, Cmd: args, Labels: map[string]string{label: s.run}},
		HostConfig: &container.HostConfig{},
	}
}

func (s suite) create(t *testing.T, spec engine.Spec) string {
	t.Helper()
	got, err := s.e.Create(t.Context(), spec)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := s.e.Remove(ctx, got); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("clean up: %v", err)
		}
	})
	return got
}

func (s suite) start(t *testing.T, spec engine.Spec) string {
	t.Helper()
	got := s.create(t, spec)
	if err := s.e.Start(t.Context(), got); err != nil {
		t.Fatalf("start: %v", err)
	}
	return got
}

func (s suite) inspect(t *testing.T, id string) *engine.Container {
	t.Helper()
	c, err := s.e.Inspect(t.Context(), id)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return c
}

// until watches the run's containers till one satisfies ok.
func (s suite) until(t *testing.T, id string, ok func(*engine.Container) bool) *engine.Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last *engine.Container
	err := s.e.Watch(ctx, label, s.run, func(ev engine.Event) {
		if !ev.Resync && ev.ContainerID != id {
			return
		}
		c, err := s.e.Inspect(ctx, id)
		if err != nil {
			t.Errorf("inspect: %v", err)
			cancel()
			return
		}
		if last = c; ok(c) {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("container did not come there: %+v, err %v", last, err)
	}
	return last
}

func (s suite) describe(t *testing.T) {
	d, err := s.e.Describe(t.Context())
	if err != nil || d.Hostname == "" || d.Platform.OS != "linux" || d.Platform.Architecture == "" ||
		d.Resources.NanoCPUs < 1e9 || d.Resources.MemoryBytes <= 0 || d.Engine.EngineVersion == "" {
		t.Errorf("describe: %+v, err %v", d, err)
	}
	if v, err := s.e.APIVersion(t.Context()); err != nil || v < "1.24" {
		t.Errorf("API version %q, err %v", v, err)
	}
}

func (s suite) images(t *testing.T) {
	img, err := s.e.Image(t.Context(), s.image)
	if err != nil || img.ID == "" || len(img.Digests) != 0 || !strings.HasPrefix(img.Platform, "linux/") {
		t.Errorf("image built here: %+v, err %v; want an id, no digest and a platform", img, err)
	}
	if _, err := s.e.Image(t.Context(), img.ID); err != nil {
		t.Errorf("image by id: %v", err)
	}
	if _, err := s.e.Image(t.Context(), "shoal-nothing:here"); !errdefs.IsNotFound(err) {
		t.Errorf("missing image: %v, want not found", err)
	}
	if err := s.e.Pull(t.Context(), "127.0.0.1:1/shoal-nothing:here", "", "", nil); err == nil {
		t.Error("pull from a registry that is not there succeeded")
	}
}

func (s suite) life(t *testing.T) {
	spec := s.spec("serve")
	// Healthy means here that the program has come to heed signals.
	spec.Config.Healthcheck = &container.HealthConfig{
		Test: []string{"CMD", "/probe", "check", "ok"}, Interval: 100 * time.Millisecond, Retries: 1000,
	}
	id := s.create(t, spec)
	if c := s.inspect(t, id); c.State != engine.Created || c.PID != 0 || c.Labels[label] != s.run {
		t.Errorf("created: %+v", c)
	}
	for range 2 { // the second one changes nothing
		if err := s.e.Start(t.Context(), id); err != nil {
			t.Errorf("start: %v", err)
		}
	}
	if c := s.inspect(t, id); c.State != engine.Running || c.PID == 0 {
		t.Errorf("started: %+v", c)
	}
	s.until(t, id, func(c *engine.Container) bool { return c.Health == engine.Healthy })
	for range 2 {
		if err := s.e.Stop(t.Context(), id, engine.StopOptions{}); err != nil && !errdefs.IsNotModified(err) {
			t.Errorf("stop: %v", err)
		}
	}
	if c := s.inspect(t, id); c.State != engine.Exited || c.ExitCode != 0 || c.PID != 0 {
		t.Errorf("stopped: %+v", c)
	}
	if err := s.e.Remove(t.Context(), id); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := s.e.Inspect(t.Context(), id); !errdefs.IsNotFound(err) {
		t.Errorf("inspect what is removed: %v, want not found", err)
	}
}

func (s suite) exitCodes(t *testing.T) {
	for word, code := range map[string]int{"0": 0, "3": 3} {
		id := s.start(t, s.spec("exit", word))
		c := s.until(t, id, func(c *engine.Container) bool { return c.State == engine.Exited })
		if c.ExitCode != code {
			t.Errorf("exit %s: code %d", word, c.ExitCode)
		}
	}
}

func (s suite) gracePeriod(t *testing.T) {
	for name, opts := range map[string]engine.StopOptions{"of the call": {Grace: new(time.Second)}, "of the container": {}} {
		t.Run(name, func(t *testing.T) {
			spec := s.spec("ignore")
			spec.Config.StopTimeout = new(1)
			id := s.start(t, spec)
			before := time.Now()
			if err := s.e.Stop(t.Context(), id, opts); err != nil {
				t.Errorf("stop: %v", err)
			}
			if d := time.Since(before); d < time.Second || d > 9*time.Second {
				t.Errorf("stop took %s with a grace period of 1 s", d)
			}
			if c := s.inspect(t, id); c.State != engine.Exited || c.ExitCode != 137 {
				t.Errorf("killed: %+v", c)
			}
		})
	}
}

func (s suite) health(t *testing.T) {
	if c := s.inspect(t, s.start(t, s.spec("serve"))); c.Health != engine.NoHealth {
		t.Errorf("health without a check: %q", c.Health)
	}
	for word, want := range map[string]engine.Health{"ok": engine.Healthy, "bad": engine.Unhealthy} {
		spec := s.spec("serve")
		spec.Config.Healthcheck = &container.HealthConfig{
			Test: []string{"CMD", "/probe", "check", word}, Interval: time.Second, Retries: 3,
		}
		id := s.start(t, spec)
		if c := s.inspect(t, id); c.Health != engine.Starting {
			t.Errorf("health just after the start: %q", c.Health)
		}
		s.until(t, id, func(c *engine.Container) bool { return c.Health == want })
		list, err := s.e.List(t.Context(), label, s.run)
		i := slices.IndexFunc(list, func(c engine.Summary) bool { return c.ID == id })
		if err != nil || i < 0 || list[i].Health != want {
			t.Errorf("list: %+v, err %v; want health %q", list, err, want)
		}
	}
}

func (s suite) names(t *testing.T) {
	spec := s.spec("serve")
	id := s.create(t, spec)
	if c, err := s.e.Inspect(t.Context(), spec.Name); err != nil || c.ID != id || c.Name != spec.Name {
		t.Errorf("inspect by name: %+v, err %v", c, err)
	}
	if _, err := s.e.Create(t.Context(), spec); !errdefs.IsConflict(err) {
		t.Errorf("second container of a name: %v, want a conflict", err)
	}
}

func (s suite) missing(t *testing.T) {
	nothing := "enginetest.nothing." + s.run
	_, inspectErr := s.e.Inspect(t.Context(), nothing)
	spec := s.spec()
	spec.Config.Image = "shoal-nothing:here"
	_, createErr := s.e.Create(t.Context(), spec)
	for what, err := range map[string]error{
		"inspect": inspectErr, "create without image": createErr,
		"start": s.e.Start(t.Context(), nothing), "remove": s.e.Remove(t.Context(), nothing),
		"stop": s.e.Stop(t.Context(), nothing, engine.StopOptions{}),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", what, err)
		}
	}
}

func (s suite) ports(t *testing.T) {
	spec := s.spec("serve")
	spec.Config.ExposedPorts = nat.PortSet{"80/tcp": {}}
	spec.HostConfig.PortBindings = nat.PortMap{"80/tcp": {{}}}
	c := s.inspect(t, s.start(t, spec))
	if len(c.Ports) != 1 || c.Ports[0].TargetPort != 80 || c.Ports[0].PublishedPort == 0 ||
		c.Ports[0].Protocol != swarm.PortConfigProtocolTCP || c.Ports[0].PublishMode != swarm.PortConfigPublishModeHost {
		t.Errorf("ports: %+v", c.Ports)
	}
}

func (s suite) failedStart(t *testing.T) {
	spec := s.spec("unstarted")
	spec.Config.Entrypoint = []string{"/unstarted"}
	id := s.create(t, spec)
	if err := s.e.Start(t.Context(), id); err == nil || errdefs.IsUnavailable(err) {
		t.Errorf("start of a program that is not there: %v", err)
	}
	if c := s.inspect(t, id); c.State != engine.Created || c.Err == "" {
		t.Errorf("after a failed start: %+v", c)
	}
}

func (s suite) removeRunning(t *testing.T) {
	id := s.start(t, s.spec("ignore"))
	if err := s.e.Remove(t.Context(), id); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func (s suite) list(t *testing.T) {
	a, b := s.create(t, s.spec("serve")), s.start(t, s.spec("serve"))
	other := s.spec("serve")
	other.Config.Labels = map[string]string{label: "other"}
	c := s.create(t, other)
	list, err := s.e.List(t.Context(), label, s.run)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	states := map[string]engine.State{}
	for _, item := range list {
		states[item.ID] = item.State
		if item.Name == "" || item.Labels[label] != s.run {
			t.Errorf("listed without name or labels: %+v", item)
		}
	}
	if states[a] != engine.Created || states[b] != engine.Running || states[c] != "" {
		t.Errorf("list: %v", states)
	}
}

func (s suite) watch(t *testing.T) {
	spec := s.spec("serve")
	id := s.start(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var events []engine.Event
	removed := make(chan error, 1)
	err := s.e.Watch(ctx, label, s.run, func(ev engine.Event) {
		if ev.Resync && len(events) == 0 {
			// Not from here: a real stream must be free to flow meanwhile.
			go func() { removed <- s.e.Remove(t.Context(), id) }()
		}
		events = append(events, ev)
		if ev.ContainerID == id {
			if ev.Name != spec.Name || ev.Labels[label] != s.run {
				t.Errorf("event: %+v", ev)
			}
			cancel()
		}
	})
	if err := <-removed; err != nil {
		t.Errorf("remove: %v", err)
	}
	if !errors.Is(err, context.Canceled) || len(events) == 0 || !events[0].Resync {
		t.Errorf("watch: err %v, events %+v; want a resync first and the removal", err, events)
	}
}

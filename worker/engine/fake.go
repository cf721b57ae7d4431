package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// Fake is an engine in memory, for tests. Its containers run the program that
// their command names:
//
//	serve      until stopped, then ends with 0
//	ignore     until killed, at the end of the grace period
//	exit N     ends with N at once
//	unstarted  cannot be started
//
// A health check whose last word is "ok" finds its container healthy, any
// other one unhealthy, after its interval.
type Fake struct {
	Description swarm.NodeDescription
	Version     string // API version; 1.41

	mu         sync.Mutex
	containers map[string]*fakeContainer
	networks   map[string]Network // by id
	images     map[string]Image   // by full reference
	registry   map[string]Image   // what Pull finds, by full reference
	faults     map[string][]fault
	cuts       map[string]int // answers still to be lost, by method
	calls      map[string]int
	watchers   map[chan Event]fakeWatch
	gone       chan struct{} // closed while the engine is down
	port       int
}

type fakeContainer struct {
	Container
	spec   Spec
	places []place
	ended  chan struct{} // closed when it no longer runs
	check  *time.Timer
}

type fakeWatch struct{ label, value string }

type fault struct {
	times int // -1: always
	delay time.Duration
	err   error
}

// fakePlatform is that of every image until it is pulled for another.
const fakePlatform = "linux/amd64"

// NewFake returns an engine without containers that has these images.
func NewFake(images ...string) *Fake {
	f := &Fake{
		Version: "1.41",
		Description: swarm.NodeDescription{
			Hostname: "fake", Platform: swarm.Platform{Architecture: "x86_64", OS: "linux"},
			Resources: swarm.Resources{NanoCPUs: 2e9, MemoryBytes: 4 << 30},
			Engine:    swarm.EngineDescription{EngineVersion: "20.10.24"},
		},
		containers: map[string]*fakeContainer{}, networks: map[string]Network{}, images: map[string]Image{}, registry: map[string]Image{},
		faults: map[string][]fault{}, cuts: map[string]int{}, calls: map[string]int{}, watchers: map[chan Event]fakeWatch{},
		gone: make(chan struct{}), port: 32767,
	}
	for _, ref := range images {
		f.images[full(ref)] = Image{ID: "sha256:" + randomHex(), Platform: fakePlatform}
	}
	return f
}

// Publish makes Pull find ref in its registry.
func (f *Fake) Publish(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.registry[full(ref)] = Image{ID: "sha256:" + randomHex(), Digests: []string{"x@sha256:" + randomHex()}, Platform: fakePlatform}
}

// Fail makes the next times calls of a method fail with err; -1: all of them,
// until Fail is called again with nil.
func (f *Fake) Fail(method string, times int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[method] = nil
	if err != nil {
		f.faults[method] = []fault{{times: times, err: err}}
	}
}

// Cut makes the next times calls of Create, Start, Stop, Remove, Connect,
// CreateNetwork or RemoveNetwork do their work and lose the answer.
func (f *Fake) Cut(method string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cuts[method] = times
}

// answerLocked is how a call that has done its work ends.
func (f *Fake) answerLocked(method string) error {
	if f.cuts[method] == 0 {
		return nil
	}
	f.cuts[method]--
	return fmt.Errorf("fake engine: answer lost: %w", errdefs.ErrUnavailable)
}

// Delay makes each call of a method take d.
func (f *Fake) Delay(method string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[method] = append(f.faults[method], fault{times: -1, delay: d})
}

// Calls returns how often a method was called.
func (f *Fake) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// Down stops the engine, and with it all containers, or starts it again.
func (f *Fake) Down(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !down {
		f.gone = make(chan struct{})
		return
	}
	close(f.gone)
	for _, c := range f.containers {
		c.end(137)
	}
}

// Kill ends a container from outside.
func (f *Fake) Kill(id string, code int, oom bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil && c.State == Running {
		c.OOMKilled = oom
		f.end(c, code)
	}
}

// KillSilently is Kill, but its event is lost.
func (f *Fake) KillSilently(id string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		c.end(code)
	}
}

// LoseSilently removes a container, and its event is lost.
func (f *Fake) LoseSilently(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		c.end(137)
		delete(f.containers, c.ID)
	}
}

// SetHealth makes the health check of a container say h.
func (f *Fake) SetHealth(id string, h Health) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil && c.State == Running {
		c.Health = h
		f.tell(c)
	}
}

// Spec returns what a container was created from.
func (f *Fake) Spec(id string) (Spec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if c == nil {
		return Spec{}, false
	}
	return c.spec, true
}

// Containers returns all containers, in the order of their names.
func (f *Fake) Containers() []Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Container
	for _, c := range f.containers {
		all = append(all, *c.seen())
	}
	slices.SortFunc(all, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// begin counts a call, waits as told and returns its fault, if it has one.
func (f *Fake) begin(ctx context.Context, method string) error {
	f.mu.Lock()
	f.calls[method]++
	var delay time.Duration
	var err error
	for i := range f.faults[method] {
		ft := &f.faults[method][i]
		delay += ft.delay
		if ft.err != nil && ft.times != 0 {
			ft.times--
			err = ft.err
		}
	}
	gone := f.gone
	f.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-gone:
		}
	}
	select {
	case <-gone:
		return fmt.Errorf("fake engine is down: %w", errdefs.ErrUnavailable)
	default:
	}
	if ctx.Err() != nil {
		return kind(ctx.Err())
	}
	return err
}

func (f *Fake) find(id string) *fakeContainer {
	if c := f.containers[id]; c != nil {
		return c
	}
	for _, c := range f.containers {
		if c.Name == id {
			return c
		}
	}
	return nil
}

func (f *Fake) end(c *fakeContainer, code int) {
	c.end(code)
	f.tell(c)
}

func (c *fakeContainer) end(code int) {
	if c.State != Running {
		return
	}
	c.State, c.Health, c.PID, c.ExitCode, c.Ports, c.Addrs = Exited, NoHealth, 0, code, nil, nil
	if c.check != nil {
		c.check.Stop()
	}
	close(c.ended)
}

// tell queues an event for whoever watches; a full queue loses it, as a real
// stream may.
func (f *Fake) tell(c *fakeContainer) {
	for ch, w := range f.watchers {
		if c.Labels[w.label] != w.value {
			continue
		}
		select {
		case ch <- Event{ContainerID: c.ID, Name: c.Name, Labels: c.Labels}:
		default:
		}
	}
}

func (f *Fake) bind(c *fakeContainer) {
	if c.spec.HostConfig == nil {
		return
	}
	for port, bindings := range c.spec.HostConfig.PortBindings {
		for _, b := range bindings {
			published := parsePort(b.HostPort)
			if published == 0 {
				f.port++
				published = uint32(f.port)
			}
			c.Ports = append(c.Ports, swarm.PortConfig{
				Protocol: swarm.PortConfigProtocol(port.Proto()), TargetPort: uint32(port.Int()),
				PublishedPort: published, PublishMode: swarm.PortConfigPublishModeHost,
			})
		}
	}
}

func (f *Fake) startCheck(c *fakeContainer, hc *container.HealthConfig) {
	if hc == nil || len(hc.Test) == 0 || hc.Test[0] == "NONE" {
		return
	}
	c.Health = Starting
	verdict := Unhealthy
	if hc.Test[len(hc.Test)-1] == "ok" {
		verdict = Healthy
	}
	c.check = time.AfterFunc(hc.Interval, func() { f.SetHealth(c.ID, verdict) })
}

// program returns what the container runs and, for exit, the code.
func (c *fakeContainer) program() (string, int) {
	words := append(slices.Clone([]string(c.spec.Config.Entrypoint)), c.spec.Config.Cmd...)
	if i := slices.Index(words, "exit"); i >= 0 && i+1 < len(words) {
		code, _ := strconv.Atoi(words[i+1]) // a word that is no number is 0
		return "exit", code
	}
	for _, w := range []string{"ignore", "unstarted"} {
		if slices.Contains(words, w) {
			return w, 0
		}
	}
	return "serve", 0
}

func full(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.TagNameOnly(named).String()
}

func randomHex() string {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

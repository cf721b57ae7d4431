package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
)

// Describe returns f.Description.
func (f *Fake) Describe(ctx context.Context) (swarm.NodeDescription, error) {
	return f.Description, f.begin(ctx, "Describe")
}

// APIVersion returns f.Version.
func (f *Fake) APIVersion(ctx context.Context) (string, error) {
	return f.Version, f.begin(ctx, "APIVersion")
}

// Image is Engine.Image.
func (f *Fake) Image(ctx context.Context, ref string) (Image, error) {
	if err := f.begin(ctx, "Image"); err != nil {
		return Image{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.image(ref)
}

func (f *Fake) image(ref string) (Image, error) {
	if img, ok := f.images[full(ref)]; ok {
		return img, nil
	}
	for _, img := range f.images {
		if img.ID == ref {
			return img, nil
		}
	}
	return Image{}, fmt.Errorf("no such image: %s: %w", ref, errdefs.ErrNotFound)
}

// Pull is Engine.Pull, from what Publish made.
func (f *Fake) Pull(ctx context.Context, ref, _, platform string, answered func()) error {
	if err := f.begin(ctx, "Pull"); err != nil {
		return err
	}
	f.mu.Lock()
	img, ok := f.registry[full(ref)]
	if ok {
		img.Platform = cmp.Or(platform, img.Platform)
		f.images[full(ref)] = img
	}
	f.mu.Unlock()
	if !ok {
		return fmt.Errorf("pull access denied for %s: %w", ref, errdefs.ErrNotFound)
	}
	if answered != nil {
		answered()
	}
	return nil
}

// Create is Engine.Create.
func (f *Fake) Create(ctx context.Context, s Spec) (string, error) {
	if err := f.begin(ctx, "Create"); err != nil {
		return "", err
	}
	c, err := f.create(s)
	if err != nil {
		return "", err
	}
	if err := f.join(ctx, c, s.Endpoints); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answerLocked("Create"); err != nil {
		return "", err
	}
	return c.ID, nil
}

func (f *Fake) create(s Spec) (*fakeContainer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.image(s.Config.Image); err != nil {
		return nil, err
	}
	if c := f.find(s.Name); s.Name != "" && c != nil {
		return nil, fmt.Errorf("the container name %q is already in use by container %q: %w", s.Name, c.ID, errdefs.ErrConflict)
	}
	c := &fakeContainer{spec: s}
	c.Summary = Summary{ID: randomHex(), Name: s.Name, Labels: s.labelled().Config.Labels, State: Created}
	f.containers[c.ID] = c
	return c, nil
}

// Start is Engine.Start.
func (f *Fake) Start(ctx context.Context, id string) error {
	if err := f.begin(ctx, "Start"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if c == nil {
		return noContainer(id)
	}
	if c.State == Running {
		return nil
	}
	program, code := c.program()
	if program == "unstarted" {
		c.Err = "executable file not found in $PATH"
		return fmt.Errorf("%s: %w", c.Err, errdefs.ErrInvalidArgument)
	}
	if err := f.addresses(c); err != nil {
		return err
	}
	c.State, c.PID, c.ExitCode, c.ended = Running, 4242, 0, make(chan struct{})
	f.bind(c)
	f.startCheck(c, c.spec.Config.Healthcheck)
	if program == "exit" {
		f.end(c, code)
	}
	return f.answerLocked("Start")
}

// Stop is Engine.Stop.
func (f *Fake) Stop(ctx context.Context, id string, opts StopOptions) error {
	if err := f.begin(ctx, "Stop"); err != nil {
		return err
	}
	f.mu.Lock()
	c := f.find(id)
	if c == nil {
		f.mu.Unlock()
		return noContainer(id)
	}
	program, _ := c.program()
	if c.State != Running || program != "ignore" {
		f.end(c, 0)
		err := f.answerLocked("Stop")
		f.mu.Unlock()
		return err
	}
	ended := c.ended
	f.mu.Unlock()
	timer := time.NewTimer(grace(c.spec, opts))
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return kind(ctx.Err())
	case <-timer.C:
	}
	f.Kill(id, 137, false)
	return nil
}

func grace(s Spec, opts StopOptions) time.Duration {
	if opts.Grace != nil {
		return opts.Grace.Truncate(time.Second)
	}
	if s.Config.StopTimeout != nil {
		return time.Duration(*s.Config.StopTimeout) * time.Second
	}
	return 10 * time.Second // Docker's default
}

// Remove is Engine.Remove.
func (f *Fake) Remove(ctx context.Context, id string) error {
	if err := f.begin(ctx, "Remove"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if c == nil {
		return noContainer(id)
	}
	f.end(c, 137)
	delete(f.containers, c.ID)
	f.tell(c)
	return f.answerLocked("Remove")
}

// Inspect is Engine.Inspect.
func (f *Fake) Inspect(ctx context.Context, id string) (*Container, error) {
	if err := f.begin(ctx, "Inspect"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if c == nil {
		return nil, noContainer(id)
	}
	return c.seen(), nil
}

// List is Engine.List.
func (f *Fake) List(ctx context.Context, label, value string) ([]Summary, error) {
	if err := f.begin(ctx, "List"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Summary
	for _, c := range f.containers {
		if c.Labels[label] == value {
			list = append(list, c.Summary)
		}
	}
	slices.SortFunc(list, func(a, b Summary) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Watch is Engine.Watch.
func (f *Fake) Watch(ctx context.Context, label, value string, notify func(Event)) error {
	if err := f.begin(ctx, "Watch"); err != nil {
		return err
	}
	events := make(chan Event, 1024)
	f.mu.Lock()
	f.watchers[events] = fakeWatch{label: label, value: value}
	gone := f.gone
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, events)
		f.mu.Unlock()
	}()
	notify(Event{Resync: true})
	for {
		select {
		case e := <-events:
			notify(e)
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return fmt.Errorf("fake engine is down: %w", errdefs.ErrUnavailable)
		}
	}
}

func noContainer(id string) error {
	return fmt.Errorf("no such container: %s: %w", id, errdefs.ErrNotFound)
}

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
)

// Config says which engine to use.
type Config struct {
	Host string // unix:///var/run/docker.sock or tcp://…; empty: Docker's default
}

// Engine is a real Docker Engine. It is safe for concurrent use.
type Engine struct {
	host string

	mu  sync.Mutex
	cli *client.Client
}

// New returns the engine at cfg.Host. It does not connect: an engine that is
// down now may be up later.
func New(cfg Config) (*Engine, error) {
	e := &Engine{host: cfg.Host}
	if e.host == "" {
		e.host = client.DefaultDockerHost
	}
	cli, err := e.dial()
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w: %w", e.host, errdefs.ErrInvalidArgument, err)
	}
	e.cli = cli
	return e, nil
}

// Close drops the connections to the engine.
func (e *Engine) Close() error { return e.client().Close() }

func (e *Engine) dial() (*client.Client, error) {
	return client.NewClientWithOpts(client.WithHost(e.host), client.WithAPIVersionNegotiation())
}

func (e *Engine) client() *client.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cli
}

// renew replaces the client. A client negotiates its API version once and
// only downwards, so an engine that was upgraded needs a new one.
func (e *Engine) renew() {
	cli, err := e.dial()
	if err != nil {
		return // New has made one from the same host: does not happen
	}
	e.mu.Lock()
	old := e.cli
	e.cli = cli
	e.mu.Unlock()
	_ = old.Close() // closes idle connections only; calls under way go on
}

// APIVersion returns the API version that engine and client agreed on.
func (e *Engine) APIVersion(ctx context.Context) (string, error) {
	cli := e.client()
	ping, err := cli.Ping(ctx)
	if err != nil {
		return "", kind(err)
	}
	cli.NegotiateAPIVersionPing(ping)
	return cli.ClientVersion(), nil
}

// Image returns the local image that ref names, an ErrNotFound if there is none.
func (e *Engine) Image(ctx context.Context, ref string) (Image, error) {
	got, err := e.client().ImageInspect(ctx, ref)
	if err != nil {
		return Image{}, kind(err)
	}
	return Image{ID: got.ID, Digests: got.RepoDigests, Platform: path.Join(got.Os, got.Architecture, got.Variant)}, nil
}

// Pull fetches ref from its registry. auth is an X-Registry-Auth value, or
// empty; platform is OS[/ARCH[/VARIANT]], or empty for the engine's own. answered is called once the registry has been heard; from then on a
// pull that takes long is one that makes progress.
func (e *Engine) Pull(ctx context.Context, ref, auth, platform string, answered func()) error {
	body, err := e.client().ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth, Platform: platform})
	if err != nil {
		return kind(err)
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for first := true; ; first = false {
		var line jsonmessage.JSONMessage
		switch err := dec.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return kind(err)
		case line.Error != nil:
			return fmt.Errorf("%w: %s", errdefs.ErrUnknown, line.Error.Message)
		}
		if first && answered != nil {
			answered()
		}
	}
}

// Start starts a container; one that runs is left alone.
func (e *Engine) Start(ctx context.Context, id string) error {
	return kind(e.client().ContainerStart(ctx, id, container.StartOptions{}))
}

// Stop sends the container its stop signal, kills it after the grace period
// and returns when it has ended. One that does not run is left alone.
func (e *Engine) Stop(ctx context.Context, id string, opts StopOptions) error {
	var timeout *int
	if opts.Grace != nil {
		seconds := int(*opts.Grace / time.Second)
		timeout = &seconds
	}
	return kind(e.client().ContainerStop(ctx, id, container.StopOptions{Timeout: timeout}))
}

// Remove removes a container, running or not, and its anonymous volumes.
func (e *Engine) Remove(ctx context.Context, id string) error {
	return kind(e.client().ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true}))
}

// Inspect returns the container with this id or name.
func (e *Engine) Inspect(ctx context.Context, id string) (*Container, error) {
	got, err := e.client().ContainerInspect(ctx, id)
	if err != nil {
		return nil, kind(err)
	}
	return observe(got)
}

// List returns the containers that carry label with this value, running or not.
func (e *Engine) List(ctx context.Context, label, value string) ([]Summary, error) {
	got, err := e.client().ContainerList(ctx, container.ListOptions{All: true, Filters: byLabel(label, value)})
	if err != nil {
		return nil, kind(err)
	}
	list := make([]Summary, len(got))
	for i, c := range got {
		list[i] = summarize(c)
	}
	return list, nil
}

// byLabel finds what carries a label with this value, or with any if that is
// empty.
func byLabel(label, value string) filters.Args {
	if value == "" {
		return filters.NewArgs(filters.Arg("label", label))
	}
	return filters.NewArgs(filters.Arg("label", label+"="+value))
}

// kind makes the errors of a client errdefs kinds: whatever says that the
// engine was not there is ErrUnavailable.
func kind(err error) error {
	var network net.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case client.IsErrConnectionFailed(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.DeadlineExceeded), errors.As(err, &network):
		return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
	default:
		return said{err}
	}
}

// said is an error that an engine sent, without the client's "Error response
// from daemon: ": it ends up in the status of a task.
type said struct{ error }

func (s said) Error() string {
	return strings.TrimPrefix(s.error.Error(), "Error response from daemon: ")
}

func (s said) Unwrap() error { return s.error }

func parsePort(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// Package engine is the thin slice of the Docker Engine that a worker uses,
// and the only package of the worker that knows the Docker client.
//
// Engine talks to a real one; Fake keeps everything in memory. One suite of
// tests runs against both, so a Fake behaves as the real thing does.
//
// Errors are errdefs kinds. An engine that does not answer is ErrUnavailable:
// the caller tries again and takes nothing for lost.
package engine

import (
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// State is what a container is doing, as far as a worker needs to tell.
type State string

// The states of a container.
const (
	Created  State = "created"  // never started
	Running  State = "running"  // paused and restarting containers too
	Exited   State = "exited"   // has run; see ExitCode
	Removing State = "removing" // on its way out
)

// Health is what the health check of a container says.
type Health string

// The answers of a health check.
const (
	NoHealth  Health = "" // there is no check
	Starting  Health = "starting"
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
)

// Summary is what a list tells of a container.
type Summary struct {
	ID     string
	Name   string
	Labels map[string]string
	State  State
	Health Health
}

// Container is all that is observed of a container.
type Container struct {
	Summary
	PID       int
	ExitCode  int
	OOMKilled bool
	Err       string // why the engine could not start it
	// Ports are the host ports that it is bound to.
	Ports []swarm.PortConfig
	// Addrs are its addresses while it runs, by the name of the network.
	Addrs map[string][]netip.Addr
	// Partial says that its creation broke off before it was connected to all of
	// its networks: Connect is to finish that.
	Partial bool
}

// Spec is a container to be.
type Spec struct {
	Name       string
	Config     *container.Config
	HostConfig *container.HostConfig
	// Platform is OS[/ARCH[/VARIANT]]; empty: that of the image that is there.
	Platform string
	// MacAddress is for the network that HostConfig.NetworkMode names.
	MacAddress string
	// Endpoints are the networks that it is connected to, instead of the one that
	// HostConfig.NetworkMode names.
	Endpoints []Endpoint
}

// Image is an image that the engine has.
type Image struct {
	ID string
	// Digests are the names with digest under which it came from, or went to,
	// a registry. An image that was built or loaded here has none.
	Digests  []string
	Platform string // OS/ARCH[/VARIANT]
}

// Event says that something has happened. It carries no state: look again.
type Event struct {
	// Resync asks to look at every container: the watch has just begun, so
	// whatever happened before it has not been told.
	Resync bool
	// ContainerID, Name and Labels tell which container changed.
	ContainerID string
	Name        string
	Labels      map[string]string
}

// StopOptions say how to stop a container. Zero values leave it to what the
// container was created with.
type StopOptions struct {
	Grace *time.Duration // whole seconds; what is below is cut off
}

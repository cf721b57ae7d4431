package integration

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// A network is the same wherever it is asked for, and a worker's containers
// get their places by way of any manager.
func TestNetworksOfACluster(t *testing.T) {
	c := form(t, 3, 1)
	m2, m3, worker := c.machines[1], c.machines[2], c.machines[3]
	ctx := t.Context()
	made, err := m2.api.NetworkCreate(ctx, "front", network.CreateOptions{Driver: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := m3.api.NetworkInspect(ctx, "front", network.InspectOptions{})
	if err != nil || n.ID != made.ID || n.Scope != "swarm" || n.Driver != "overlay" || len(n.IPAM.Config) != 1 {
		t.Errorf("seen from %s: %+v, %v", m3.name, n, err)
	}
	if _, err := m3.api.NetworkCreate(ctx, "front", network.CreateOptions{Driver: "overlay"}); !errdefs.IsConflict(err) {
		t.Errorf("created twice: %v", err)
	}
	list, err := m3.api.NetworkList(ctx, network.ListOptions{})
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	if err != nil || !strings.Contains(strings.Join(names, " "), "front") {
		t.Errorf("list: %v, %v", names, err)
	}
	if _, err := worker.api.NetworkCreate(ctx, "back", network.CreateOptions{Driver: "overlay"}); err == nil || !strings.Contains(err.Error(), "This node is not a swarm manager") {
		t.Errorf("created on a worker: %v", err)
	}
	_, err = worker.api.ContainerCreate(ctx, &container.Config{Image: image}, &container.HostConfig{NetworkMode: "front"}, nil, nil, "box")
	const refusal = "Could not attach to network front: rpc error: code = PermissionDenied desc = network front not manually attachable"
	if err == nil || !strings.Contains(err.Error(), refusal) {
		t.Errorf("docker run on a network that is not attachable: %v", err)
	}
	s := spec("web", 1)
	s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "front"}}
	web, err := m2.api.ServiceCreate(ctx, s, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m3.api.NetworkRemove(ctx, "front"); err == nil || !strings.Contains(err.Error(), "network front is used by service web") {
		t.Errorf("removed although it is in use: %v", err)
	}
	if err := m2.api.ServiceRemove(ctx, web.ID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the network to be removed", func() (string, bool) {
		if err := m3.api.NetworkRemove(ctx, "front"); err != nil {
			return err.Error(), false
		}
		return "", true
	})
}

//go:build docker

package compat

import (
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

func named(name string) swarm.Annotations {
	return swarm.Annotations{Name: name, Labels: map[string]string{"a": "b"}}
}

func (k *sdk) secrets() error {
	spec := swarm.SecretSpec{Annotations: named("key"), Data: []byte("value")}
	made, err := k.api.SecretCreate(k.ctx, spec)
	k.note("secret create", made, err)
	_, err = k.api.SecretCreate(k.ctx, spec)
	k.note("secret create again", nil, err)
	_, err = k.api.SecretCreate(k.ctx, swarm.SecretSpec{Annotations: named("empty")})
	k.note("secret without data", nil, err)
	_, err = k.api.SecretCreate(k.ctx, swarm.SecretSpec{Annotations: named("a@b"), Data: []byte("x")})
	k.note("secret with a bad name", nil, err)
	list, err := k.api.SecretList(k.ctx, swarm.SecretListOptions{Filters: by("label", "a=b")})
	k.note("secret list", list, err)
	list, err = k.api.SecretList(k.ctx, swarm.SecretListOptions{Filters: by("name", "other")})
	k.note("secret list of none", list, err)
	secret, raw, err := k.api.SecretInspectWithRaw(k.ctx, "key")
	k.note("secret inspect", secret, err)
	k.note("secret inspect raw", string(raw), err)
	_, _, err = k.api.SecretInspectWithRaw(k.ctx, "nosuch")
	k.note("secret inspect of none", nil, err)
	_, _, err = k.api.SecretInspectWithRaw(k.ctx, "")
	k.note("secret inspect without a name", nil, err)
	spec = secret.Spec
	spec.Labels = map[string]string{"c": "d"}
	k.note("secret update", nil, k.api.SecretUpdate(k.ctx, made.ID, secret.Version, spec))
	k.note("secret update out of sequence", nil, k.api.SecretUpdate(k.ctx, made.ID, secret.Version, spec))
	k.note("secret update of none", nil, k.api.SecretUpdate(k.ctx, "nosuch", secret.Version, spec))
	secret, _, err = k.api.SecretInspectWithRaw(k.ctx, made.ID)
	k.note("secret after the update", secret, err)
	spec.Data = []byte("other")
	k.note("secret update of data", nil, k.api.SecretUpdate(k.ctx, made.ID, secret.Version, spec), "more")
	k.note("secret remove", nil, k.api.SecretRemove(k.ctx, "key"))
	k.note("secret remove again", nil, k.api.SecretRemove(k.ctx, "key"))
	return nil
}

func (k *sdk) configs() error {
	spec := swarm.ConfigSpec{Annotations: named("page"), Data: []byte("value")}
	made, err := k.api.ConfigCreate(k.ctx, spec)
	k.note("config create", made, err)
	_, err = k.api.ConfigCreate(k.ctx, spec)
	k.note("config create again", nil, err)
	list, err := k.api.ConfigList(k.ctx, swarm.ConfigListOptions{Filters: by("name", "page")})
	k.note("config list", list, err)
	config, raw, err := k.api.ConfigInspectWithRaw(k.ctx, "page")
	k.note("config inspect", config, err)
	k.note("config inspect raw", string(raw), err)
	_, _, err = k.api.ConfigInspectWithRaw(k.ctx, "nosuch")
	k.note("config inspect of none", nil, err)
	spec.Labels = map[string]string{"c": "d"}
	k.note("config update", nil, k.api.ConfigUpdate(k.ctx, made.ID, config.Version, spec))
	k.note("config update out of sequence", nil, k.api.ConfigUpdate(k.ctx, made.ID, config.Version, spec))
	config, _, err = k.api.ConfigInspectWithRaw(k.ctx, made.ID)
	k.note("config after the update", config, err)
	spec.Data = []byte("other")
	k.note("config update of data", nil, k.api.ConfigUpdate(k.ctx, made.ID, config.Version, spec), "more")
	k.note("config remove", nil, k.api.ConfigRemove(k.ctx, made.ID))
	k.note("config remove again", nil, k.api.ConfigRemove(k.ctx, made.ID))
	return nil
}

func (k *sdk) networks() error {
	options := network.CreateOptions{Driver: "overlay", Attachable: true, Labels: map[string]string{"a": "b"}}
	made, err := k.api.NetworkCreate(k.ctx, "net", options)
	k.note("network create", made, err)
	_, err = k.api.NetworkCreate(k.ctx, "net", options)
	k.note("network create again", nil, err)
	list, err := k.api.NetworkList(k.ctx, network.ListOptions{Filters: by("label", "a=b")})
	k.note("network list", list, err)
	list, err = k.api.NetworkList(k.ctx, network.ListOptions{Filters: by("driver", "overlay", "name", "ingress")})
	k.note("network list ingress", list, err)
	net, err := k.api.NetworkInspect(k.ctx, "net", network.InspectOptions{Verbose: true})
	k.note("network inspect", net, err)
	_, err = k.api.NetworkInspect(k.ctx, "nosuch", network.InspectOptions{})
	k.note("network inspect of none", nil, err)
	_, err = k.api.NetworkInspect(k.ctx, "net", network.InspectOptions{Scope: "local"})
	k.note("network inspect elsewhere", nil, err)

	config := &container.Config{Image: "web:1", Cmd: []string{"/bin/sleep", "1000"}}
	c, err := k.api.ContainerCreate(k.ctx, config, nil, nil, nil, "joined")
	k.note("container create", nil, err)
	k.note("container start", nil, k.api.ContainerStart(k.ctx, c.ID, container.StartOptions{}))
	k.note("network connect", nil, k.api.NetworkConnect(k.ctx, "net", "joined", &network.EndpointSettings{Aliases: []string{"x"}}))
	k.note("network connect again", nil, k.api.NetworkConnect(k.ctx, "net", "joined", nil), "more")
	k.note("network connect of none", nil, k.api.NetworkConnect(k.ctx, "nosuch", "joined", nil),
		"differs Swarm answers 500 and with the error of an RPC", "shoal ^NotFound: .* network nosuch not found$")
	k.note("network remove in use", nil, k.api.NetworkRemove(k.ctx, "net"), "differs the same, then all who use it", "shoal in use")
	k.note("network disconnect", nil, k.api.NetworkDisconnect(k.ctx, "net", "joined", false))
	k.note("network disconnect again", nil, k.api.NetworkDisconnect(k.ctx, "net", "joined", false), "more")
	k.note("container remove", nil, k.api.ContainerRemove(k.ctx, c.ID, container.RemoveOptions{Force: true}))
	k.note("network remove", nil, k.api.NetworkRemove(k.ctx, made.ID)) // how long an engine keeps its half of it is a matter of time

	made, err = k.api.NetworkCreate(k.ctx, "bare", network.CreateOptions{Driver: "overlay"})
	k.note("network create without more", made, err)
	err = k.await("the network to have a subnet", func() (string, bool) {
		net, err = k.api.NetworkInspect(k.ctx, "bare", network.InspectOptions{})
		return fmt.Sprint(net, err), err == nil && len(net.IPAM.Config) > 0
	})
	k.note("network inspect without more", net, err)
	k.note("network remove without more", nil, k.api.NetworkRemove(k.ctx, made.ID))
	k.note("network remove again", nil, k.api.NetworkRemove(k.ctx, made.ID))
	return nil
}

func (k *sdk) nodes() error {
	list, err := k.api.NodeList(k.ctx, swarm.NodeListOptions{Filters: by("role", "worker")})
	k.note("node list", list, err)
	list, err = k.api.NodeList(k.ctx, swarm.NodeListOptions{Filters: by("name", "nosuch")})
	k.note("node list of none", list, err)
	_, err = k.api.NodeList(k.ctx, swarm.NodeListOptions{Filters: by("colour", "red")})
	k.note("node list with a bad filter", nil, err, "differs in lower case, as later engines say it", "shoal invalid filter 'colour'")
	node, _, err := k.api.NodeInspectWithRaw(k.ctx, "h2")
	k.note("node inspect", node, err)
	self, _, err := k.api.NodeInspectWithRaw(k.ctx, "self")
	self.ManagerStatus = nil // in the table
	k.note("node inspect self", self, err)
	_, _, err = k.api.NodeInspectWithRaw(k.ctx, "nosuch")
	k.note("node inspect of none", nil, err)
	spec := node.Spec
	spec.Labels = map[string]string{"zone": "a"}
	k.note("node update", nil, k.api.NodeUpdate(k.ctx, node.ID, node.Version, spec))
	k.note("node update out of sequence", nil, k.api.NodeUpdate(k.ctx, node.ID, node.Version, spec))
	k.note("node update of none", nil, k.api.NodeUpdate(k.ctx, "nosuch", node.Version, spec))
	node, _, err = k.api.NodeInspectWithRaw(k.ctx, "h2")
	k.note("node after the update", node.Spec, err)
	spec.Role = "king"
	k.note("node update with a bad role", nil, k.api.NodeUpdate(k.ctx, node.ID, node.Version, spec))
	spec = swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive}
	k.note("node update back", nil, k.api.NodeUpdate(k.ctx, node.ID, node.Version, spec))
	k.note("node remove while it is up", nil, k.api.NodeRemove(k.ctx, "h2", swarm.NodeRemoveOptions{}), "more")
	k.note("node remove of none", nil, k.api.NodeRemove(k.ctx, "nosuch", swarm.NodeRemoveOptions{}))
	return nil
}

// swarm lets h3 join and leave again.
func (k *sdk) swarm() error {
	cluster, err := k.api.SwarmInspect(k.ctx)
	k.note("swarm inspect", cluster, err)
	_, err = k.api.SwarmInit(k.ctx, swarm.InitRequest{ListenAddr: "0.0.0.0:2377"})
	k.note("swarm init again", nil, err)
	join := swarm.JoinRequest{ListenAddr: "0.0.0.0:2377", RemoteAddrs: []string{k.d.env["ADDR1"] + ":2377"}, AdvertiseAddr: k.d.env["ADDR3"]}
	k.note("swarm join again", nil, k.api.SwarmJoin(k.ctx, join))
	join.JoinToken = "nonsense"
	k.note("swarm join with a bad token", nil, k.third.SwarmJoin(k.ctx, join), "differs Swarm answers 500", "shoal ^InvalidArgument: .* invalid join token")
	join.JoinToken = cluster.JoinTokens.Worker
	k.note("swarm join", nil, k.third.SwarmJoin(k.ctx, join))
	err = k.awaitNode("h3", swarm.NodeStateReady)
	k.note("node ready", nil, err)
	info, err := k.third.Info(k.ctx)
	info.Swarm.RemoteManagers = nil
	k.note("info of a worker", info.Swarm, err)
	_, err = k.third.ServiceList(k.ctx, swarm.ServiceListOptions{})
	k.note("services of a worker", nil, err)
	k.note("swarm leave", nil, k.third.SwarmLeave(k.ctx, false))
	err = k.awaitNode("h3", swarm.NodeStateDown)
	k.note("node down", nil, err)
	k.note("node remove", nil, k.api.NodeRemove(k.ctx, "h3", swarm.NodeRemoveOptions{}))
	k.note("manager leave", nil, k.api.SwarmLeave(k.ctx, false))

	spec := cluster.Spec
	limit := int64(3)
	spec.Orchestration.TaskHistoryRetentionLimit = &limit
	k.note("swarm update", nil, k.api.SwarmUpdate(k.ctx, cluster.Version, spec, swarm.UpdateFlags{}))
	k.note("swarm update out of sequence", nil, k.api.SwarmUpdate(k.ctx, cluster.Version, spec, swarm.UpdateFlags{}))
	after, err := k.api.SwarmInspect(k.ctx)
	k.note("swarm after the update", after.Spec, err)
	spec.CAConfig.NodeCertExpiry = time.Second
	k.note("swarm update with a bad time", nil, k.api.SwarmUpdate(k.ctx, after.Version, spec, swarm.UpdateFlags{}), "more")
	k.note("swarm rotate a token", nil, k.api.SwarmUpdate(k.ctx, after.Version, after.Spec, swarm.UpdateFlags{RotateWorkerToken: true}))
	rotated, err := k.api.SwarmInspect(k.ctx)
	k.note("swarm rotated", []bool{rotated.JoinTokens.Worker != after.JoinTokens.Worker, rotated.JoinTokens.Manager != after.JoinTokens.Manager}, err)
	key, err := k.api.SwarmGetUnlockKey(k.ctx)
	k.note("swarm unlock key", key, err)
	k.note("swarm unlock", nil, k.api.SwarmUnlock(k.ctx, swarm.UnlockRequest{UnlockKey: "x"}))
	return nil
}

func (k *sdk) awaitNode(name string, state swarm.NodeState) error {
	return k.await(name+" to be "+string(state), func() (string, bool) {
		node, _, err := k.api.NodeInspectWithRaw(k.ctx, name)
		return string(node.Status.State), err == nil && node.Status.State == state
	})
}

package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"

	plugintypes "github.com/docker/docker/api/types"
)

// Describe returns what the engine says of its host.
func (e *Engine) Describe(ctx context.Context) (swarm.NodeDescription, error) {
	cli := e.client()
	info, err := cli.Info(ctx)
	if err != nil {
		return swarm.NodeDescription{}, fmt.Errorf("describe engine: %w", kind(err))
	}
	managed, err := cli.PluginList(ctx, filters.NewArgs())
	if err != nil {
		managed = nil // an engine without managed plugins is a whole engine
	}
	return describe(info, managed), nil
}

func describe(info system.Info, managed plugintypes.PluginsListResponse) swarm.NodeDescription {
	labels := map[string]string{}
	for _, l := range info.Labels {
		if k, v, ok := strings.Cut(l, "="); ok {
			labels[k] = v
		}
	}
	return swarm.NodeDescription{
		Hostname: info.Name,
		Platform: swarm.Platform{Architecture: info.Architecture, OS: info.OSType},
		Resources: swarm.Resources{
			NanoCPUs: int64(info.NCPU) * 1e9, MemoryBytes: info.MemTotal, GenericResources: info.GenericResources,
		},
		Engine: swarm.EngineDescription{EngineVersion: info.ServerVersion, Labels: labels, Plugins: plugins(info, managed)},
	}
}

func plugins(info system.Info, managed plugintypes.PluginsListResponse) []swarm.PluginDescription {
	var all []swarm.PluginDescription
	add := func(kind string, names ...string) {
		for _, name := range names {
			all = append(all, swarm.PluginDescription{Type: kind, Name: name})
		}
	}
	add("Volume", info.Plugins.Volume...)
	add("Network", append([]string{"overlay"}, info.Plugins.Network...)...)
	add("Authorization", info.Plugins.Authorization...)
	add("Log", info.Plugins.Log...)
	kinds := map[string]string{"volumedriver": "Volume", "networkdriver": "Network", "logdriver": "Log"}
	for _, p := range managed {
		for _, t := range p.Config.Interface.Types {
			if p.Enabled && t.Prefix == "docker" {
				add(cmp.Or(kinds[t.Capability], t.Capability), p.Name)
			}
		}
	}
	slices.SortFunc(all, func(a, b swarm.PluginDescription) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
	return slices.Compact(all)
}

package cli

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// lookUp changes in spec what names have to be turned into IDs for: networks,
// secrets and configs. It only reads.
func (s *serviceFlags) lookUp(ctx context.Context, api *client.Client, spec *swarm.ServiceSpec) error {
	if err := s.lookUpNetworks(ctx, api, &spec.TaskTemplate); err != nil {
		return err
	}
	c := spec.TaskTemplate.ContainerSpec
	if err := s.lookUpSecrets(ctx, api, c); err != nil {
		return err
	}
	return s.lookUpConfigs(ctx, api, c)
}

func networkID(ctx context.Context, api *client.Client, name string) (string, error) {
	n, err := api.NetworkInspect(ctx, name, network.InspectOptions{Scope: "swarm"})
	if errdefs.IsNotFound(err) {
		return "", fmt.Errorf("network %s not found: --network takes a network of the cluster", name)
	}
	return n.ID, err
}

func (s *serviceFlags) lookUpNetworks(ctx context.Context, api *client.Client, t *swarm.TaskSpec) error {
	added := s.networks.Value()
	if len(added)+len(s.networksRemoved) == 0 {
		return nil
	}
	var removed []string
	for _, name := range s.networksRemoved {
		id, err := networkID(ctx, api, name)
		if err != nil {
			return err
		}
		removed = append(removed, id)
	}
	var out []swarm.NetworkAttachmentConfig
	for _, n := range t.Networks {
		if !slices.Contains(removed, n.Target) {
			out = append(out, n)
		}
	}
	for _, n := range added {
		id, err := networkID(ctx, api, n.Target)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(out, func(o swarm.NetworkAttachmentConfig) bool { return o.Target == id }) {
			return fmt.Errorf("service is already attached to network %s", n.Target)
		}
		out = append(out, swarm.NetworkAttachmentConfig{Target: id, Aliases: n.Aliases, DriverOpts: n.DriverOpts})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Target < out[j].Target })
	t.Networks = out
	return nil
}

func (s *serviceFlags) lookUpSecrets(ctx context.Context, api *client.Client, c *swarm.ContainerSpec) error {
	added := s.secrets.Value()
	if len(added)+len(s.secretsRemoved) == 0 {
		return nil
	}
	names := filters.NewArgs()
	targets := map[string]bool{}
	for _, ref := range added {
		ref.File.Name = ownTarget(ref.File.Name, ref.SecretName)
		if targets[ref.File.Name] {
			return fmt.Errorf("duplicate secret target for %s not allowed", ref.SecretName)
		}
		targets[ref.File.Name] = true
		names.Add("name", ref.SecretName)
	}
	ids := map[string]string{}
	if len(added) > 0 {
		found, err := api.SecretList(ctx, swarm.SecretListOptions{Filters: names})
		if err != nil {
			return err
		}
		for _, secret := range found {
			ids[secret.Spec.Name] = secret.ID
		}
	}
	var out []*swarm.SecretReference
	for _, ref := range c.Secrets {
		if !slices.Contains(s.secretsRemoved, ref.SecretName) && (ref.File == nil || !targets[ref.File.Name]) {
			out = append(out, ref)
		}
	}
	for _, ref := range added {
		id, ok := ids[ref.SecretName]
		if !ok {
			return fmt.Errorf("secret not found: %s", ref.SecretName)
		}
		withID := *ref
		withID.SecretID = id
		out = append(out, &withID)
	}
	c.Secrets = out
	return nil
}

// ownTarget is where a secret or config goes: one version of it, NAME@N, for
// which no target was given, where the others go.
func ownTarget(target, source string) string {
	if target == source {
		target, _, _ = strings.Cut(source, "@")
	}
	return target
}

// lookUpConfigs also resolves a credential spec that is a config.
func (s *serviceFlags) lookUpConfigs(ctx context.Context, api *client.Client, c *swarm.ContainerSpec) error {
	added := slices.Clone(s.configs.Value())
	credential := s.credential.spec
	if credential.Config != "" {
		added = append(added, &swarm.ConfigReference{ConfigName: credential.Config, Runtime: &swarm.ConfigReferenceRuntimeTarget{}})
	}
	if len(added)+len(s.configsRemoved) > 0 {
		if err := s.mergeConfigs(ctx, api, c, added); err != nil {
			return err
		}
	}
	if !s.changed("credential-spec") {
		return nil
	}
	for _, ref := range c.Configs {
		if ref.Runtime != nil && ref.ConfigName == credential.Config {
			credential.Config = ref.ConfigID
		}
	}
	p := swarm.Privileges{}
	if c.Privileges != nil {
		p = *c.Privileges
	}
	p.CredentialSpec = &credential
	if s.credential.source == "" {
		p.CredentialSpec = nil
	}
	c.Privileges = &p
	return nil
}

func (s *serviceFlags) mergeConfigs(ctx context.Context, api *client.Client, c *swarm.ContainerSpec, added []*swarm.ConfigReference) error {
	names := filters.NewArgs()
	targets := map[string]bool{}
	for _, ref := range added {
		names.Add("name", ref.ConfigName)
		if ref.File == nil {
			continue
		}
		ref.File.Name = ownTarget(ref.File.Name, ref.ConfigName)
		if targets[ref.File.Name] {
			return fmt.Errorf("duplicate config target for %s not allowed", ref.ConfigName)
		}
		targets[ref.File.Name] = true
	}
	ids := map[string]string{}
	if len(added) > 0 {
		found, err := api.ConfigList(ctx, swarm.ConfigListOptions{Filters: names})
		if err != nil {
			return err
		}
		for _, config := range found {
			ids[config.Spec.Name] = config.ID
		}
	}
	var out []*swarm.ConfigReference
	for _, ref := range c.Configs {
		if !slices.Contains(s.configsRemoved, ref.ConfigName) && (ref.File == nil || !targets[ref.File.Name]) {
			out = append(out, ref)
		}
	}
	for _, ref := range added {
		id, ok := ids[ref.ConfigName]
		if !ok {
			return fmt.Errorf("config not found: %s", ref.ConfigName)
		}
		withID := *ref
		withID.ConfigID = id
		out = append(out, &withID)
	}
	c.Configs = out
	return nil
}

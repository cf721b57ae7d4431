package state

import (
	"cmp"
	"iter"

	"github.com/docker/docker/api/types/swarm"
)

// Secrets and configs are values: what a task receives as a file.

// ValuesOf yields the ids of the secrets and configs that tasks of a spec
// receive, each once.
func ValuesOf(spec *swarm.ServiceSpec) iter.Seq[string] {
	return func(yield func(string) bool) {
		c := spec.TaskTemplate.ContainerSpec
		if c == nil {
			return
		}
		seen := map[string]bool{}
		again := func(id string) bool {
			old := seen[id]
			seen[id] = true
			return old || id == ""
		}
		for _, ref := range c.Secrets {
			if ref != nil && !again(ref.SecretID) && !yield(ref.SecretID) {
				return
			}
		}
		for _, ref := range c.Configs {
			if ref != nil && !again(ref.ConfigID) && !yield(ref.ConfigID) {
				return
			}
		}
	}
}

func valueKeys(spec *swarm.ServiceSpec, yield func(string)) {
	for id := range ValuesOf(spec) {
		yield(id)
	}
}

// VersionNumber numbers the secret among those of its name, from 1.
func (s *Secret) VersionNumber() uint64 { return max(s.Number, 1) }

// VersionNumber numbers the config among those of its name, from 1.
func (c *Config) VersionNumber() uint64 { return max(c.Number, 1) }

func newestSecret(a, b *Secret) bool {
	return cmp.Or(cmp.Compare(b.VersionNumber(), a.VersionNumber()), cmp.Compare(a.ID, b.ID)) < 0
}

func newestConfig(a, b *Config) bool {
	return cmp.Or(cmp.Compare(b.VersionNumber(), a.VersionNumber()), cmp.Compare(a.ID, b.ID)) < 0
}

// Secret returns the secret with this id, or nil.
func (v *View) Secret(id string) *Secret { return v.tables.secrets.get(id) }

// SecretByName returns the newest version of the secret with this name, or nil.
func (v *View) SecretByName(name string) *Secret { return first(v.SecretVersions(name)) }

// SecretVersions yields the versions of a secret, newest first.
func (v *View) SecretVersions(name string) iter.Seq[*Secret] {
	return v.tables.secrets.indexes[byName].equal(name)
}

// SecretsByPrefix yields the secrets whose id begins with prefix, every version.
func (v *View) SecretsByPrefix(prefix string) iter.Seq[*Secret] {
	return v.tables.secrets.prefix(prefix)
}

// Config returns the config with this id, or nil.
func (v *View) Config(id string) *Config { return v.tables.configs.get(id) }

// ConfigByName returns the newest version of the config with this name, or nil.
func (v *View) ConfigByName(name string) *Config { return first(v.ConfigVersions(name)) }

// ConfigVersions yields the versions of a config, newest first.
func (v *View) ConfigVersions(name string) iter.Seq[*Config] {
	return v.tables.configs.indexes[byName].equal(name)
}

// ConfigsByPrefix yields the configs whose id begins with prefix, every version.
func (v *View) ConfigsByPrefix(prefix string) iter.Seq[*Config] {
	return v.tables.configs.prefix(prefix)
}

// ServicesUsing yields the services whose spec names the secret or config with
// this id.
func (v *View) ServicesUsing(valueID string) iter.Seq[*Service] {
	return v.tables.services.indexes[serviceByValue].equal(valueID)
}

// RevisionsUsing yields the stored revisions that name the secret or config
// with this id.
func (v *View) RevisionsUsing(valueID string) iter.Seq[*Revision] {
	return v.tables.revisions.indexes[revisionByValue].equal(valueID)
}

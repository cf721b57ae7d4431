package statetest

import (
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// Secret returns a version of a secret whose data tells its id.
func Secret(id, name string, version uint64) *state.Secret {
	return &state.Secret{Number: version, Secret: swarm.Secret{ID: id, Spec: swarm.SecretSpec{
		Annotations: swarm.Annotations{Name: name, Labels: map[string]string{}}, Data: []byte("secret data of " + id),
	}}}
}

// Config returns a version of a config whose data tells its id.
func Config(id, name string, version uint64) *state.Config {
	return &state.Config{Number: version, Config: swarm.Config{ID: id, Spec: swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: name, Labels: map[string]string{}}, Data: []byte("config data of " + id),
	}}}
}

// Uses makes a service use secrets and configs, as files with their names.
func Uses(values ...state.Object) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		c := s.TaskTemplate.ContainerSpec
		for _, v := range values {
			switch v := v.(type) {
			case *state.Secret:
				c.Secrets = append(c.Secrets, &swarm.SecretReference{
					SecretID: v.ID, SecretName: v.Spec.Name,
					File: &swarm.SecretReferenceFileTarget{Name: v.Spec.Name, UID: "0", GID: "0", Mode: 0o444},
				})
			case *state.Config:
				c.Configs = append(c.Configs, &swarm.ConfigReference{
					ConfigID: v.ID, ConfigName: v.Spec.Name,
					File: &swarm.ConfigReferenceFileTarget{Name: "/" + v.Spec.Name, UID: "0", GID: "0", Mode: 0o444},
				})
			}
		}
	}
}

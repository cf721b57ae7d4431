package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
)

// extendedSpec is a service's spec with what Docker's types leave out.
type extendedSpec struct {
	swarm.ServiceSpec
	Run       *runspec.Spec `json:",omitempty"`
	Rebalance *string       `json:",omitempty"`
}

// runOf reads the run spec out of a service as the daemon sent it.
func runOf(raw []byte) (*runspec.Spec, error) {
	var service struct {
		Spec struct {
			Run *runspec.Spec `json:"Run"`
		} `json:"Spec"`
	}
	if err := json.Unmarshal(raw, &service); err != nil {
		return nil, fmt.Errorf("decode the service: %w", err)
	}
	return service.Spec.Run, nil
}

// createRun creates a service that has more than Docker's client can send.
func (s *shell) createRun(ctx context.Context, spec extendedSpec, auth string) (created swarm.ServiceCreateResponse, err error) {
	err = s.sendSpec(ctx, "/services/create", spec, auth, &created)
	return created, err
}

// updateRun is createRun for an update.
func (s *shell) updateRun(ctx context.Context, service swarm.Service, spec extendedSpec, o swarm.ServiceUpdateOptions) (updated swarm.ServiceUpdateResponse, err error) {
	query := url.Values{"version": {service.Version.String()}}
	if o.RegistryAuthFrom != "" {
		query.Set("registryAuthFrom", o.RegistryAuthFrom)
	}
	path := "/services/" + url.PathEscape(service.ID) + "/update?" + query.Encode()
	err = s.sendSpec(ctx, path, spec, o.EncodedRegistryAuth, &updated)
	return updated, err
}

// sendSpec sees to what Docker's client does before it posts: the image has a tag.
func (s *shell) sendSpec(ctx context.Context, path string, spec extendedSpec, auth string, into any) error {
	c := *spec.TaskTemplate.ContainerSpec
	if named, err := reference.ParseNormalizedNamed(c.Image); err == nil {
		c.Image = reference.FamiliarString(reference.TagNameOnly(named))
	}
	spec.TaskTemplate.ContainerSpec = &c
	body, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	header := http.Header{}
	if auth != "" {
		header.Set(registry.AuthHeader, auth)
	}
	return s.callWith(ctx, http.MethodPost, path, header, bytes.NewReader(body), into)
}

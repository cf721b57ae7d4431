// Package pin fixes the image of a service to what its tag means now, so that
// all tasks of a deployment run the same, whenever they pull.
package pin

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/opencontainers/go-digest"
)

// Image replaces the image's tag by the digest that the registry has for it,
// and notes the platforms that it exists for. ask asks the registry. Where that
// fails, which is the error, only the tag latest is filled in.
func Image(t *swarm.TaskSpec, ask func(image string) (registry.DistributionInspect, error)) error {
	if t.ContainerSpec == nil {
		return nil
	}
	if _, err := digest.Parse(t.ContainerSpec.Image); err == nil {
		return nil // the id of an image: no registry knows it
	}
	named, err := reference.ParseNormalizedNamed(t.ContainerSpec.Image)
	if err != nil {
		return nil // refused elsewhere
	}
	named = reference.TagNameOnly(named)
	c := *t.ContainerSpec
	c.Image, t.ContainerSpec = reference.FamiliarString(named), &c
	found, err := ask(c.Image)
	if err != nil {
		return fmt.Errorf("digest of image %s: %w", c.Image, err)
	}
	if _, ok := named.(reference.Canonical); !ok {
		if pinned, err := reference.WithDigest(named, found.Descriptor.Digest); err == nil {
			c.Image = reference.FamiliarString(pinned)
		}
	}
	if len(found.Platforms) > 0 {
		t.Placement = forPlatforms(t.Placement, found)
	}
	return nil
}

// Warning is what Docker says where an image could not be pinned.
func Warning(image string) string {
	return fmt.Sprintf("image %s could not be accessed on a registry to record\nits digest. Each node will access %s independently,\npossibly leading to different nodes running different\nversions of the image.\n", image, image)
}

func forPlatforms(given *swarm.Placement, found registry.DistributionInspect) *swarm.Placement {
	placement := swarm.Placement{}
	if given != nil {
		placement = *given
	}
	placement.Platforms = nil
	for _, p := range found.Platforms {
		arch := p.Architecture
		if strings.EqualFold(arch, "arm") { // nodes say armv7l and the like
			arch = ""
		}
		placement.Platforms = append(placement.Platforms, swarm.Platform{Architecture: arch, OS: p.OS})
	}
	return &placement
}

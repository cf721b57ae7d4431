package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// resolveTimeout: a registry that answers does so well within it; one that does
// not is only worth a warning.
const resolveTimeout = 1500 * time.Millisecond

// checkImage refuses what is no image reference.
func checkImage(image string) error {
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return fmt.Errorf("invalid image reference %q: %w", image, err)
	}
	return nil
}

// pin replaces the image's tag by what the registry says it is now, and notes
// the platforms it exists for. It returns a warning instead when it cannot.
func pin(ctx context.Context, api *client.Client, t *swarm.TaskSpec, auth string) string {
	named, err := reference.ParseNormalizedNamed(t.ContainerSpec.Image)
	if err != nil {
		return "" // refused before
	}
	named = reference.TagNameOnly(named)
	image := reference.FamiliarString(named)
	t.ContainerSpec.Image = image
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := api.DistributionInspect(ctx, image, auth)
	if err != nil {
		return fmt.Sprintf("image %s could not be accessed on a registry to record\nits digest. Each node will access %s independently,\npossibly leading to different nodes running different\nversions of the image.\n", image, image)
	}
	if _, ok := named.(reference.Canonical); !ok {
		if pinned, err := reference.WithDigest(named, found.Descriptor.Digest); err == nil {
			t.ContainerSpec.Image = reference.FamiliarString(pinned)
		}
	}
	if len(found.Platforms) == 0 {
		return ""
	}
	placement := swarm.Placement{}
	if t.Placement != nil {
		placement = *t.Placement
	}
	placement.Platforms = nil
	for _, p := range found.Platforms {
		arch := p.Architecture
		if strings.EqualFold(arch, "arm") { // nodes say armv7l and the like
			arch = ""
		}
		placement.Platforms = append(placement.Platforms, swarm.Platform{Architecture: arch, OS: p.OS})
	}
	t.Placement = &placement
	return ""
}

// registryAuth reads the user's credentials for the image's registry, in the
// form of the X-Registry-Auth header.
func (s *shell) registryAuth(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("invalid image reference %q: %w", image, err)
	}
	key := reference.Domain(named)
	if key == "docker.io" {
		key = "https://index.docker.io/v1/" // the key that docker login writes
	}
	found, err := config.LoadDefaultConfigFile(s.err).GetAuthConfig(key)
	if err != nil {
		return "", fmt.Errorf("read the credentials for %s: %w", key, err)
	}
	return registry.EncodeAuthConfig(registry.AuthConfig{
		Username: found.Username, Password: found.Password, Auth: found.Auth,
		ServerAddress: found.ServerAddress, IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
	})
}

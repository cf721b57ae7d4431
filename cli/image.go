package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/internal/pin"
)

// resolveTimeout is how long a registry has to tell a digest; one that does not
// is only worth a warning. 5s: three round trips with TLS across an ocean, and
// one packet that is lost.
const resolveTimeout = 5 * time.Second

// checkImage refuses what is no image reference.
func checkImage(image string) error {
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return fmt.Errorf("invalid image reference %q: %w", image, err)
	}
	return nil
}

// pinImage fixes the image to the digest that its tag has now. It returns a
// warning instead when the registry does not tell.
func pinImage(ctx context.Context, api *client.Client, t *swarm.TaskSpec, auth string) (warning string) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	err := pin.Image(t, func(image string) (registry.DistributionInspect, error) {
		return api.DistributionInspect(ctx, image, auth)
	})
	if err != nil {
		return pin.Warning(t.ContainerSpec.Image)
	}
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
	if found.Username == "" && found.Auth == "" && found.IdentityToken == "" && found.RegistryToken == "" {
		fmt.Fprintf(s.err, "WARNING: --with-registry-auth: there are no credentials for %s, so none are sent, and the service keeps none; docker login stores them\n", reference.Domain(named))
	}
	return registry.EncodeAuthConfig(registry.AuthConfig{
		Username: found.Username, Password: found.Password, Auth: found.Auth,
		ServerAddress: found.ServerAddress, IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
	})
}

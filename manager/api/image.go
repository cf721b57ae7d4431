package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/pin"
)

// pinTime is how long a registry has to tell a digest. 5s: as for clients that
// ask themselves.
const pinTime = 5 * time.Second

// pin fixes the image of a spec to its digest for clients from before 1.30,
// which leave that to the managers. Later ones have done it, or were told not to.
func (a *API) pin(r *http.Request, spec *swarm.ServiceSpec, auth string) (warnings []string) {
	c := spec.TaskTemplate.ContainerSpec
	if a.config.Distribution == nil || c == nil || AtLeast(r, "1.30") || isPinned(c.Image) {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), pinTime)
	defer cancel()
	pinned := spec.TaskTemplate
	if err := pin.Image(&pinned, func(image string) (registry.DistributionInspect, error) {
		return a.config.Distribution(ctx, image, auth)
	}); err != nil {
		a.log.Debug("image not pinned", "image", c.Image, "error", err)
		return []string{pin.Warning(c.Image)}
	}
	spec.TaskTemplate = pinned
	return nil
}

func isPinned(image string) bool {
	ref, err := reference.ParseNormalizedNamed(image)
	_, canonical := ref.(reference.Canonical)
	return err != nil || canonical
}

// registryAuth reads and checks the credentials for the image's registry. They
// are kept as they came: a secret that only workers get to see.
func registryAuth(r *http.Request) (string, error) {
	auth := r.Header.Get(registry.AuthHeader)
	if auth == "" {
		return "", nil
	}
	raw, err := base64.URLEncoding.DecodeString(auth)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(auth, "="))
	}
	var config registry.AuthConfig
	if err != nil || json.Unmarshal(raw, &config) != nil {
		return "", invalid("invalid %s header: base64url of a JSON object with the credentials is expected", registry.AuthHeader)
	}
	return auth, nil
}

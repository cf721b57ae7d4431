package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Clients from before 1.30 leave it to the managers to pin an image; of later
// ones it is taken as it comes.
func TestOldClientsHaveTheirImagesPinned(t *testing.T) {
	h := newHarness(t)
	sum, asked := digest.FromString("web"), []string{}
	h.distribution = func(image, auth string) (registry.DistributionInspect, error) {
		asked = append(asked, image+" "+auth)
		return registry.DistributionInspect{Descriptor: ocispec.Descriptor{Digest: sum}}, nil
	}
	pinned := "reg.example/web:1@" + string(sum)
	for _, c := range []struct{ version, image, want, asked string }{
		{"v1.24", "reg.example/web:1", pinned, "reg.example/web:1 e30="},
		{"v1.29", pinned, pinned, ""},
		{"v1.30", "reg.example/web:1", "reg.example/web:1", ""},
		{"v1.41", "reg.example/web:1", "reg.example/web:1", ""},
	} {
		asked = nil
		name := strings.ReplaceAll(c.version, ".", "-")
		spec := webSpec(name, 1)
		spec.TaskTemplate.ContainerSpec.Image = c.image
		code, body := h.call("POST", "/"+c.version+"/services/create", spec, "X-Registry-Auth: e30=")
		if got := h.service(name).Spec.TaskTemplate.ContainerSpec.Image; code != http.StatusCreated || got != c.want || strings.Join(asked, "; ") != c.asked {
			t.Errorf("%s creates %s: %d %s, image %s, asked %q", c.version, c.image, code, body, got, asked)
		}
	}
}

func TestOldClientsAreWarnedWhenTheRegistryDoesNotAnswer(t *testing.T) {
	h := newHarness(t)
	spec := webSpec("web", 1)
	spec.TaskTemplate.ContainerSpec.Image = "reg.example/web"
	code, body := h.call("POST", "/v1.24/services/create", spec)
	var created swarm.ServiceCreateResponse
	if err := json.Unmarshal([]byte(body), &created); err != nil || code != http.StatusCreated {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	if len(created.Warnings) != 1 || !strings.HasPrefix(created.Warnings[0], "image reg.example/web could not be accessed on a registry") {
		t.Errorf("warnings %q", created.Warnings)
	}
	if got := h.service("web").Spec.TaskTemplate.ContainerSpec.Image; got != "reg.example/web" {
		t.Errorf("image %s", got)
	}
}

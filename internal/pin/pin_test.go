package pin

import (
	"errors"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var errDown = errors.New("connection refused")

func TestAnImageIsPinned(t *testing.T) {
	sum := digest.FromString("web")
	other := digest.FromString("other")
	found := registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{Digest: sum},
		Platforms:  []ocispec.Platform{{Architecture: "amd64", OS: "linux"}, {Architecture: "arm", Variant: "v7", OS: "linux"}},
	}
	for _, c := range []struct{ image, asked, want string }{
		{"web", "web:latest", "web:latest@" + string(sum)},
		{"reg.example:5000/a/web:2", "reg.example:5000/a/web:2", "reg.example:5000/a/web:2@" + string(sum)},
		{"web:1@" + string(other), "web:1@" + string(other), "web:1@" + string(other)},
		{string(other), "", string(other)}, // an image id
	} {
		spec := swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: c.image}, Placement: &swarm.Placement{Constraints: []string{"a"}}}
		given, asked := spec.ContainerSpec, ""
		warning := Image(&spec, func(image string) (registry.DistributionInspect, error) { asked = image; return found, nil })
		if spec.ContainerSpec.Image != c.want || asked != c.asked || warning != "" || given.Image != c.image {
			t.Errorf("%s: %s after asking for %s, warning %q", c.image, spec.ContainerSpec.Image, asked, warning)
		}
		want := []swarm.Platform{{Architecture: "amd64", OS: "linux"}, {OS: "linux"}}
		if c.asked == "" {
			want = nil
		}
		if diff := cmp.Diff(want, spec.Placement.Platforms); diff != "" || len(spec.Placement.Constraints) != 1 {
			t.Errorf("%s: platforms (-want +got):\n%s", c.image, diff)
		}
	}
}

func TestARegistryThatDoesNotAnswerIsAWarning(t *testing.T) {
	spec := swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "web"}}
	warning := Image(&spec, func(string) (registry.DistributionInspect, error) { return registry.DistributionInspect{}, errDown })
	if spec.ContainerSpec.Image != "web:latest" || spec.Placement != nil || !strings.HasPrefix(warning, "image web:latest could not be accessed on a registry to record\nits digest.") {
		t.Errorf("%+v, warning %q", spec.ContainerSpec, warning)
	}
}

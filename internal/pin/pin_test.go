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
		err := Image(&spec, func(image string) (registry.DistributionInspect, error) { asked = image; return found, nil })
		if spec.ContainerSpec.Image != c.want || asked != c.asked || err != nil || given.Image != c.image {
			t.Errorf("%s: %s after asking for %s, err %v", c.image, spec.ContainerSpec.Image, asked, err)
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

func TestARegistryThatDoesNotAnswerLeavesTheTag(t *testing.T) {
	spec := swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "web"}}
	err := Image(&spec, func(string) (registry.DistributionInspect, error) { return registry.DistributionInspect{}, errDown })
	if spec.ContainerSpec.Image != "web:latest" || spec.Placement != nil || !errors.Is(err, errDown) {
		t.Errorf("%+v, err %v", spec.ContainerSpec, err)
	}
	if got := Warning("web:1"); !strings.HasPrefix(got, "image web:1 could not be accessed on a registry to record\nits digest.") {
		t.Errorf("warning %q", got)
	}
}

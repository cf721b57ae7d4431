package state_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// goldenValues holds what came with versions of secrets and configs.
func goldenValues() [][]state.Change {
	secret, newer, config := statetest.Secret("sec1", "password", 0), statetest.Secret("sec2", "password", 2), statetest.Config("con1", "nginx.conf", 3)
	newer.Spec.Templating = &swarm.Driver{Name: "golang"}
	service, revision := statetest.Service("web", 2, statetest.Uses(newer, config))
	return [][]state.Change{
		{state.Put(secret), state.Put(config)},
		{state.Put(newer)},
		{state.Put(service), state.Put(revision)},
	}
}

func TestTheNewestVersionHasTheName(t *testing.T) {
	v := statetest.View(
		statetest.Secret("s3", "db", 3), statetest.Secret("s1", "db", 0), statetest.Secret("s10", "db", 10), statetest.Secret("x", "other", 0),
		statetest.Config("c1", "db", 1), statetest.Config("c2", "db", 2),
	)
	if got := v.SecretByName("db"); got == nil || got.ID != "s10" {
		t.Errorf("newest secret is %v", got)
	}
	if got := v.ConfigByName("db"); got == nil || got.ID != "c2" {
		t.Errorf("newest config is %v", got)
	}
	var order []string
	for s := range v.SecretVersions("db") {
		order = append(order, fmt.Sprint(s.ID, "=", s.VersionNumber()))
	}
	if diff := cmp.Diff([]string{"s10=10", "s3=3", "s1=1"}, order); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if v.SecretByName("nope") != nil || v.ConfigByName("nope") != nil {
		t.Error("found what is not there")
	}
}

func TestUsersOfAValueAreFound(t *testing.T) {
	secret, config := statetest.Secret("s1", "db", 0), statetest.Config("c1", "conf", 0)
	web, webRev := statetest.Service("web", 1, statetest.Uses(secret, secret, config)) // twice, at two places
	job, jobRev := statetest.Service("job", 1)
	v := statetest.View(secret, config, web, webRev, job, jobRev)
	for _, id := range []string{"s1", "c1"} {
		var services []string
		for s := range v.ServicesUsing(id) {
			services = append(services, s.ID)
		}
		var revisions []string
		for r := range v.RevisionsUsing(id) {
			revisions = append(revisions, r.Key())
		}
		if diff := cmp.Diff([]string{"web"}, services); diff != "" {
			t.Errorf("services using %s (-want +got):\n%s", id, diff)
		}
		if diff := cmp.Diff([]string{state.RevisionKey("web", 1)}, revisions); diff != "" {
			t.Errorf("revisions using %s (-want +got):\n%s", id, diff)
		}
	}
}

// The index of users and the specs say the same, whatever happens.
func TestUsersOfValuesFollowTheSpecs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := statetest.New()
		ids := []string{"a", "b", "c"}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			key := rapid.SampledFrom(ids).Draw(t, "service")
			if rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
				store.Apply(state.Delete(state.KindService, key))
				continue
			}
			var used []state.Object
			for range rapid.IntRange(0, 3).Draw(t, "values") {
				used = append(used, drawValue(t))
			}
			service, revision := statetest.Service(key, 1, statetest.Uses(used...))
			store.Put(service, revision)
		}
		v := store.View()
		for _, id := range []string{"v1", "v2"} {
			var want, got []string
			for s := range v.Services() {
				if slices.Contains(slices.Collect(state.ValuesOf(&s.Spec)), id) {
					want = append(want, s.ID)
				}
			}
			for s := range v.ServicesUsing(id) {
				got = append(got, s.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("users of %s (-specs +index):\n%s", id, diff)
			}
		}
	})
}

func drawValue(t *rapid.T) state.Object {
	id := rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "value")
	number := rapid.Uint64Range(0, 3).Draw(t, "version")
	if rapid.Bool().Draw(t, "secret") {
		return statetest.Secret(id, "name", number)
	}
	return statetest.Config(id, "name", number)
}

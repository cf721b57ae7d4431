package reaper

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func secretIDs(v *state.View) (ids []string) {
	for s := range v.SecretsByPrefix("") {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestVersionsThatNoRevisionRefersToAreForgotten(t *testing.T) {
	used := statetest.Secret("s2", "db", 2)
	_, revision := statetest.Service("web", 1, statetest.Uses(used))
	v := statetest.View(statetest.Secret("s1", "db", 1), used, statetest.Secret("s3", "db", 3), statetest.Secret("s4", "db", 4),
		statetest.Secret("s5", "db", 5), statetest.Config("c1", "db", 1), revision)
	var gone []string
	for _, c := range planVersions(v, valueName{state.KindSecret, "db"}) {
		gone = append(gone, c.Key())
	}
	if want := []string{"s3", "s1"}; !slices.Equal(gone, want) {
		t.Errorf("forgets %v, want %v", gone, want)
	}
	if changes := planVersions(v, valueName{state.KindConfig, "db"}); len(changes) > 0 {
		t.Errorf("forgets the only config: %v", changes)
	}
}

func TestRunForgetsVersionsWithTheirRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := statetest.Secret("s1", "db", 1)
		web, revision := statetest.Service("web", 1, statetest.Uses(first))
		store := statetest.New(first, web, revision)
		running(t, store, func() {
			store.Put(statetest.Secret("s2", "db", 2))
			store.Put(statetest.Secret("s3", "db", 3))
			time.Sleep(5 * time.Second) // virtual
			if got, want := secretIDs(store.View()), []string{"s1", "s2", "s3"}; !slices.Equal(got, want) {
				t.Errorf("%v are left, want %v", got, want)
			}
			store.Apply(state.Delete(state.KindService, "web"))
			time.Sleep(5 * time.Second) // virtual
			if got, want := secretIDs(store.View()), []string{"s2", "s3"}; !slices.Equal(got, want) {
				t.Errorf("%v are left of a service that is gone, want %v", got, want)
			}
		})
	})
}

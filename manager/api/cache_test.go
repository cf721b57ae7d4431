package api

import (
	"bytes"
	"fmt"
	"testing"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestCacheForgetsServicesThatAreGone(t *testing.T) {
	var c cache
	list := func(v *state.View) {
		var buf bytes.Buffer
		for err := range c.items(&buf, v, v.Services(), false) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	store := statetest.New()
	for i := range 1000 {
		s, _ := statetest.Service(fmt.Sprintf("s%d", i), 1)
		store.Put(s)
		list(store.View())
		store.Apply(state.Delete(state.KindService, s.ID))
	}
	if n := len(c.encoded); n > 100 {
		t.Errorf("%d services remembered of a state that has none", n)
	}
}

package integration

import (
	"testing"

	"github.com/docker/docker/client"
)

func TestWritesThroughSurvivorsOutliveTheLeader(t *testing.T) {
	c := form(t, 3, 0)
	for round := range 3 {
		leader := c.leader(c.machines[0])
		var survivors []*machine
		var apis []*client.Client
		for _, m := range c.machines {
			if m != leader {
				survivors = append(survivors, m)
				apis = append(apis, m.api, m.api)
			}
		}
		w := startWriters(t.Context(), string(rune('a'+round)), apis...)
		if err := w.await(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		leader.stop()
		if err := w.await(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		t.Logf("longest time without an acknowledgement: %v, %d writes", w.stop(), len(w.acked))
		w.verify(t, survivors[0].api)
		leader.start()
		c.awaitNodes(survivors[0], 3, 0)
		w.verify(t, leader.api)
	}
}

package node

import (
	"testing"

	"shoal/internal/pki"
)

func TestReaddress(t *testing.T) {
	for name, c := range map[string]struct {
		asked             *asked
		listen, advertise string // flags
		want              string // advertised then
		changed           bool
	}{
		"an older version's record": {nil, "127.0.0.2:2377", "127.0.0.2", "127.0.0.1:2377", false},
		"as before":                 {&asked{}, "127.0.0.1:2377", "127.0.0.1", "127.0.0.1:2377", false},
		"another flag":              {&asked{}, "127.0.0.2:2377", "127.0.0.2", "127.0.0.2:2377", true},
		"the request said":          {&asked{"127.0.0.1:2377", "127.0.0.1"}, "127.0.0.2:2377", "127.0.0.2", "127.0.0.1:2377", false},
		"an interface":              {&asked{"lo", "lo"}, "", "", "127.0.0.1:2377", false},
		"not to be told":            {&asked{}, "nosuch0", "", "127.0.0.1:2377", false},
	} {
		t.Run(name, func(t *testing.T) {
			n := testNode(t)
			n.cfg.ListenAddr, n.cfg.AdvertiseAddr = c.listen, c.advertise
			r := &record{NodeID: "n1", Listen: "127.0.0.1:2377", Advertise: "127.0.0.1:2377", Asked: c.asked, Managers: managersAt("127.0.0.1:2377")}
			m := newMember(n, r, nil)
			if changed := m.readdress(); changed != c.changed {
				t.Errorf("changed %v, want %v", changed, c.changed)
			}
			got := m.record.Load()
			if got.Advertise != c.want || got.Managers[0].Addr != c.want || got.Managers[1].Addr != "127.0.0.9:2377" {
				t.Errorf("advertises %s, managers %v, want %s", got.Advertise, got.Managers, c.want)
			}
			if m.readdress() {
				t.Error("changed again")
			}
		})
	}
}

func managersAt(self string) []pki.Manager {
	return []pki.Manager{{NodeID: "n1", Addr: self}, {NodeID: "n2", Addr: "127.0.0.9:2377"}}
}

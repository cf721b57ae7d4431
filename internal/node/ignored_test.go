package node

import (
	"log/slog"
	"strings"
	"testing"
)

func TestFlagsThatAreNotLookedAtAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		listen, advertise string
		said              bool
	}{
		"none":              {"", "", false},
		"the same":          {"127.0.0.1:2377", "127.0.0.1", false},
		"another port":      {"127.0.0.1:2378", "", true},
		"another advertise": {"127.0.0.1", "127.0.0.2", true},
		"nonsense":          {"nosuch0", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := testNode(t)
			var text strings.Builder
			n.log = slog.New(slog.NewTextHandler(&text, nil))
			n.cfg.ListenAddr, n.cfg.AdvertiseAddr = c.listen, c.advertise
			n.sayIgnored(&record{Listen: "127.0.0.1:2377", Advertise: "127.0.0.1:2377", Asked: &asked{Listen: "127.0.0.1"}})
			if said := strings.Contains(text.String(), "keeps the addresses"); said != c.said {
				t.Errorf("said %v, want %v: %s", said, c.said, &text)
			}
		})
	}
}

func TestInitThatGivesUpSaysWhy(t *testing.T) {
	n := testNode(t)
	m := newMember(n, &record{Advertise: "192.0.2.1:2377"}, nil)
	err := n.notUp(m, errTimeout)
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1:2377") || !strings.Contains(err.Error(), "--advertise-addr") || strings.Contains(err.Error(), "background") {
		t.Errorf("got %v", err)
	}
	n.setError(invalid("the disk is full"))
	if err := n.notUp(m, errTimeout); !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
}

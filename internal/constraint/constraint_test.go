package constraint

import (
	"strings"
	"testing"
)

func facts() Facts {
	return Facts{
		ID: "id1", Hostname: "Host1", IP: "10.1.2.3", Role: "manager", OS: "linux", Arch: "x86_64",
		NodeLabels: map[string]string{"zone": "East", "empty": ""}, EngineLabels: map[string]string{"storage.kind": "ssd"},
	}
}

func TestMatch(t *testing.T) {
	for expression, want := range map[string]bool{
		"node.id==id1": true, "node.id == ID1": true, "node.id!=id1": false, "node.id == id2": false, "NODE.ID==id1": true,
		"node.hostname == host1": true, "node.hostname!=host2": true, "node.hostname == host*": false,
		"node.role==manager": true, "node.role != worker": true,
		"node.ip == 10.1.2.3": true, "node.ip == 10.1.0.0/16": true, "node.ip == 10.2.0.0/16": false, "node.ip != 10.1.0.0/16": false,
		"node.ip != 10.2.0.0/16": true, "node.ip == somewhere": false, "node.ip != somewhere": false,
		"node.platform.os == Linux": true, "node.platform.arch==x86_64": true, "node.platform.arch == arm64": false,
		"node.labels.zone == east": true, "node.labels.zone != west": true, "node.labels.Zone == east": false,
		"Node.Labels.zone == east": true, "node.labels.none != x": true, "node.labels.none == x": false,
		"engine.labels.storage.kind == SSD": true, "engine.labels.other != ssd": true,
		"node.unknown == x": false, "node.unknown != x": false,
	} {
		c, err := Parse([]string{expression})
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got := MatchAll(c, facts()); got != want {
			t.Errorf("%s: %v, want %v", expression, got, want)
		}
	}
}

func TestAllConstraintsMustBeMet(t *testing.T) {
	c, err := Parse([]string{"node.role == manager", "node.labels.zone == west"})
	if err != nil {
		t.Fatal(err)
	}
	if MatchAll(c, facts()) {
		t.Error("matched with one of two constraints met")
	}
	if !MatchAll(nil, facts()) {
		t.Error("no constraints must match every node")
	}
}

func TestParseRefuses(t *testing.T) {
	for expression, want := range map[string]string{
		"":                       "expected one operator from ==, !=",
		"node.id":                "expected one operator from ==, !=",
		"node.id=id1":            "expected one operator from ==, !=",
		"node.id =~ id1":         "expected one operator from ==, !=",
		"==id1":                  "key '' is invalid",
		"1node == x":             "key '1node' is invalid",
		"node id == x":           "key 'node id' is invalid",
		"node.id ==":             "value '' is invalid",
		"node.id == a;b":         "value 'a;b' is invalid",
		"node.id == a == b":      "value 'a == b' is invalid",
		"node.labels.a != \"b\"": "is invalid",
	} {
		if _, err := Parse([]string{expression}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want it to contain %q", expression, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("node.labels.zone == a")
	f.Add("node.ip!=10.0.0.0/8")
	f.Fuzz(func(t *testing.T, expression string) {
		c, err := Parse([]string{expression})
		if err != nil {
			return
		}
		again, err := Parse([]string{c[0].String()})
		if err != nil {
			t.Fatalf("%q parses, its plain form %q does not: %v", expression, c[0], err)
		}
		if MatchAll(c, facts()) != MatchAll(again, facts()) {
			t.Fatalf("%q and %q differ", expression, c[0])
		}
	})
}

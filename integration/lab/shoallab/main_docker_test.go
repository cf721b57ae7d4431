//go:build docker

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALabFromUpToDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	t.Cleanup(func() {
		if err := run(t.Context(), []string{"-dir", dir, "down"}, io.Discard); err != nil {
			t.Errorf("down at the end: %v", err)
		}
	})
	shoallab := func(args string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"-dir", dir}, strings.Fields(args)...), &out)
		return out.String(), err
	}
	for _, step := range []struct{ args, prints, fails string }{
		{"up -n 2 -form swarm", "2 hosts are up", ""},
		{"up -n 1 -form none", "", "not empty"},
		{"status", "h2", ""},
		{"run h1 docker node ls", "Leader", ""},
		{"run h1 no-such-program", "", "no-such-program"},
		{"run h3 true", "", "want h1 to h2"},
		{"dance h1", "", "unknown command"},
		{"kill h1 sheep", "", "want daemon or engine"},
		{"kill h1 daemon", "", "does not run"},
		{"kill h2 engine", "", ""},
		{"start h2 engine", "", ""},
		{"start h2 engine", "", "runs already"},
		{"pause h2 engine", "", ""},
		{"resume h2 engine", "", ""},
		{"cut h2", "", ""},
		{"heal h2", "", ""},
		{"cut-one-way h1 h2", "", ""},
		{"cut-between h1 h9", "", "want h1 to h2"},
		{"off h2", "", ""},
		{"run h2 true", "", "is off"},
		{"on h2", "", ""},
		{"down", "the lab is gone", ""},
	} {
		out, err := shoallab(step.args)
		if (err == nil) != (step.fails == "") || (err != nil && !strings.Contains(err.Error(), step.fails)) {
			t.Errorf("shoallab %s: error %v, want %q", step.args, err, step.fails)
		}
		if !strings.Contains(out, step.prints) {
			t.Errorf("shoallab %s printed %q, want %q", step.args, out, step.prints)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left behind", dir)
	}
}

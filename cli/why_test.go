package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shoal/cli/format"
)

const whyAnswer = `{"Kind":"task","ID":"t1","Name":"web.1.t1","State":"failed","DesiredState":"shutdown","Cause":"it failed","Evidence":["exit"],"Fix":"a","Fixes":["a","b"],` +
	`"RetryAt":"2026-11-26T12:00:00Z","Container":{"Task":"web.1.t1","Output":["line"],"Health":[{"At":"2026-11-26T11:59:00Z","ExitCode":1,"Output":"sick","Times":2}],"OOM":true,"Missing":["more"]}}`

func TestWhyPrintsAllThatTheManagerSays(t *testing.T) {
	f := cluster(t)
	f.why["web.1"] = whyAnswer
	stdout, _, code := f.run(t, "why", "--format", "json", "web.1")
	var sent, got format.Why
	if err := json.Unmarshal([]byte(whyAnswer), &sent); err != nil { //nolint:musttag // named as in the API
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || !cmp.Equal(sent, got) { //nolint:musttag // likewise
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
	stdout, _, code = f.run(t, "why", "web.1")
	for _, want := range []string{"Cause:     it failed\n", "Health:    exit code 1, 2 times in a row, ", "  | sick\n", "  | line\n", "Missing:   more\n", "Fix:       a\nor:        b\n"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, want %q in:\n%s", code, want, stdout)
		}
	}
	if stdout, _, _ = f.run(t, "why", "--format", "{{.Container.OOM}} {{len .Fixes}}", "web.1"); stdout != "true 2\n" {
		t.Errorf("template: %q", stdout)
	}
	if _, stderr, code := f.run(t, "why", "nosuch"); code != 1 || !strings.Contains(stderr, "no such task or service") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

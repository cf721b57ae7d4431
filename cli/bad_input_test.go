package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Every line of testdata/bad_input.txt is refused with its code and words, and
// nothing that changes anything reaches the server.
func TestBadInput(t *testing.T) {
	const path = "testdata/bad_input.txt"
	update := os.Getenv("UPDATE_GOLDEN") != ""
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeServer(t)
	f.addService("service1xxxxxxxxxxxxxxxxx", "web", 1)
	f.addService("service2xxxxxxxxxxxxxxxxx", "db", 1)
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	var out strings.Builder
	cases := 0
	for i, line := range lines {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			if strings.HasPrefix(line, "#") {
				fmt.Fprintln(&out, line)
			}
			continue
		}
		cases++
		args, err := splitWords(command)
		if err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := f.run(t, args...)
		first, _, _ := strings.Cut(strings.ReplaceAll(stderr, f.host, "unix://SOCKET"), "\n")
		got := fmt.Sprintf("%d %s", code, first)
		fmt.Fprintf(&out, "%s\n%s\n", line, got)
		if code == 0 || first == "" || strings.Contains(stdout, "scaled") {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", command, code, stdout, stderr)
		}
		if !update && (i+1 >= len(lines) || lines[i+1] != got) {
			t.Errorf("%s\n got: %s\nwant: %s", command, got, lines[min(i+1, len(lines)-1)])
		}
		for _, w := range f.writes() {
			// Things that only the server can know: it was asked, and refused.
			if strings.HasPrefix(w, "DELETE ") && strings.HasSuffix(w, "/nosuch") {
				continue
			}
			t.Errorf("%s: sent %s", command, w)
		}
		f.requests = nil
	}
	if cases < 60 {
		t.Errorf("%d cases, want at least 60", cases)
	}
	if update {
		if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

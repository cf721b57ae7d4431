package lab

import (
	"path/filepath"
	"testing"
)

// ForTest builds a lab for one test. When the test ends the lab is closed and
// must have left nothing; when it failed, the ends of the daemons' logs are
// printed first.
func ForTest(t testing.TB, cfg Config) *Lab {
	t.Helper()
	l, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.dump(t)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
		for _, leak := range l.Leaks() {
			t.Errorf("the lab left behind: %s", leak)
		}
	})
	return l
}

func (l *Lab) dump(t testing.TB) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(l.Dir(), "h*", "daemon.log"))
	if err != nil {
		t.Log(err)
	}
	for _, log := range logs {
		t.Logf("--- end of %s\n%s", log, tail(log, 3000))
	}
}

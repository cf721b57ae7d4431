//go:build docker

package lab

import (
	"testing"
	"time"
)

func TestFiveEnginesComeUpAndLeaveNothing(t *testing.T) {
	start := time.Now()
	l, err := New(t.Context(), Config{Hosts: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("five engines after %v", time.Since(start))
	for _, h := range l.Hosts() {
		out, err := h.Docker(t.Context(), "info", "-f", "{{.Name}} {{.Driver}} {{.ID}}")
		t.Log(out, err)
	}
	start = time.Now()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("closed after %v", time.Since(start))
	if leaks := l.Leaks(); len(leaks) > 0 {
		t.Error(leaks)
	}
}

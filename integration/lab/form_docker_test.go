//go:build docker

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shoalProgram is $SHOAL_BIN, as make builds it, or else built here.
func shoalProgram(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("SHOAL_BIN"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "shoal")
	if err := Build(t.Context(), "shoal", program); err != nil {
		t.Fatal(err)
	}
	return program
}

func TestShoalFormsOnTheLab(t *testing.T) {
	program := shoalProgram(t)
	start := time.Now()
	l := ForTest(t, Config{Hosts: 4, Shoal: program})
	if err := l.FormShoal(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	t.Logf("a cluster of four after %v", time.Since(start))
	for _, h := range l.Hosts()[:3] {
		err := WaitFor(t.Context(), 10*time.Second, "four nodes that are ready, seen from "+h.Name, func() (string, bool) {
			nodes, err := h.Run(t.Context(), "docker", "-H", "unix:///run/shoal/shoal.sock", "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}")
			if err != nil {
				return err.Error(), false
			}
			return nodes, strings.Count(nodes, " Ready") == 4 && strings.Count(nodes, "Reachable") == 2 && strings.Count(nodes, "Leader") == 1
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestShoalSurvivesAPowerCutOfTheLeader(t *testing.T) {
	l := ForTest(t, Config{Hosts: 3, Shoal: shoalProgram(t)})
	if err := l.LoadImage(t.Context(), WebImage("web:1", webProgram(t))); err != nil {
		t.Fatal(err)
	}
	if err := l.FormShoal(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Host(1).Shoal(t.Context(), "service", "create", "--detach", "--name", "web", "--replicas", "6", "web:1", "sleep", "1000000"); err != nil {
		t.Fatal(err)
	}
	running := func(h *Host, when, notOn string) {
		t.Helper()
		err := WaitFor(t.Context(), 40*time.Second, "six tasks running "+when, func() (string, bool) {
			ps, err := h.Shoal(t.Context(), "service", "ps", "web", "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}")
			if err != nil {
				return err.Error(), false
			}
			return ps, strings.Count(ps, " Running ") == 6 && strings.Count(ps, "\n") == 6 && !strings.Contains(ps, notOn+" ")
		})
		if err != nil {
			t.Error(err)
		}
	}
	running(l.Host(1), "at first", "elsewhere")
	start := time.Now()
	if err := l.Host(1).PowerOff(); err != nil {
		t.Fatal(err)
	}
	running(l.Host(2), "without h1", "h1")
	t.Logf("replaced %v after the power cut", time.Since(start))
	if err := l.Host(1).PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Host(1).StartEngine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Host(1).StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	running(l.Host(1), "with h1 back", "elsewhere")
}

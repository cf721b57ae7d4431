//go:build docker

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/cli"
	"shoal/integration/lab"
)

// TestExamples types the examples of --help, all of them, on hosts that have an
// engine and nothing else, where everything is in its usual place.
func TestExamples(t *testing.T) {
	s := newSite(t, 3)
	for _, h := range s.Hosts() {
		asInstalled(t, h)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"site.conf": "listen 8080\n", "password": "another password\n"} {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	token := ""
	for _, e := range cli.Examples() {
		h := hostNamed(t, s, e.Host)
		line := strings.NewReplacer("SHMTKN-1-...", token, "192.0.2.1", s.Host(1).Addr).Replace(e.Line)
		if e.Endless {
			line = "timeout --preserve-status --signal INT 2 " + line
		} else {
			line = "timeout 60 sh -c " + quoted(line)
		}
		began := time.Now()
		out, err := typed(t, h, dir, line)
		t.Logf("%s (%v) %s\n%s", h.Name, time.Since(began).Round(10*time.Millisecond), e.Line, out)
		if err != nil && !(e.Endless && strings.Contains(err.Error(), "exit status 130")) {
			t.Fatalf("%s: %s: %v", h.Name, e.Line, err)
		}
		switch {
		case strings.HasPrefix(e.Line, "shoal init"):
			token, err = typed(t, h, dir, "shoal join-token --quiet worker")
			ok(t, err)
			token = strings.TrimSpace(token)
		case strings.HasPrefix(e.Line, "shoal node rm"):
			waitFor(t, h.Name+" to be alone", func() (string, bool) {
				nodes, err := typed(t, h, dir, "shoal node ls --quiet")
				return fmt.Sprint(nodes, err), len(strings.Fields(nodes)) == 2 // h3 is there
			})
		}
	}
	for _, h := range s.Hosts() {
		waitFor(t, h.Name+" to be as it was", func() (string, bool) {
			left, err := h.Docker(t.Context(), "ps", "--all", "--quiet", "--filter", "label=shoal.cluster.id")
			return fmt.Sprint(left, err), err == nil && strings.TrimSpace(left) == ""
		})
	}
}

// asInstalled gives h, which has its own /run, a directory of its own where shoal
// keeps its state when it is not told otherwise, and a second version of the
// sample image.
func asInstalled(t *testing.T, h *lab.Host) {
	t.Helper()
	const state = "/var/lib/shoal"
	if err := os.Mkdir(state, 0o700); err == nil { // to mount something on: it stays empty
		t.Cleanup(func() { ok(t, os.Remove(state)) })
	}
	_, err := h.Run(t.Context(), "mount", "-t", "tmpfs", "none", state)
	ok(t, err)
	_, err = h.Docker(t.Context(), "tag", image, "web:2")
	ok(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			tail, _ := h.Run(t.Context(), "sh", "-c", "tail -n 30 /var/lib/shoal/daemon.log")
			t.Logf("%s:\n%s", h.Name, tail)
		}
	})
}

// typed runs a line as somebody would who sits at h, with shoal installed.
func typed(t *testing.T, h *lab.Host, dir, line string) (string, error) {
	t.Helper()
	bin := filepath.Dir(program(t, "SHOAL_BIN", "shoal"))
	return h.Run(t.Context(), "env", "-u", "DOCKER_HOST", "PATH="+bin+":"+os.Getenv("PATH"), "sh", "-c", "cd "+dir+" && "+line)
}

func quoted(line string) string { return "'" + strings.ReplaceAll(line, "'", `'\''`) + "'" }

func hostNamed(t *testing.T, s *site, name string) *lab.Host {
	t.Helper()
	for _, h := range s.Hosts() {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("no host is called %s", name)
	return nil
}

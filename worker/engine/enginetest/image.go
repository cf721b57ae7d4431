package enginetest

import (
	"context"
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"shoal/internal/id"
)

//go:embed testdata/probe
var probe embed.FS

// Image builds the probe and an image of it on the engine of docker's
// default, and removes the image when the test ends. It returns its name.
func Image(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"main.go", "Dockerfile"} {
		data, err := probe.ReadFile("testdata/probe/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", "probe", "main.go")
	name := "shoal-probe-" + id.New()[:8] + ":test"
	run(t, dir, "docker", "build", "-q", "-t", name, ".")
	t.Cleanup(func() { run(t, dir, "docker", "rmi", "-f", name) })
	return name
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "DOCKER_BUILDKIT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

//go:build docker

package integration

import (
	"strings"
	"testing"
	"time"

	"shoal/integration/lab"
)

// dockerInput is docker with a standard input, and with the classic builder.
func dockerInput(t *testing.T, h *lab.Host, stdin string, args ...string) string {
	t.Helper()
	out, err := h.RunInput(t.Context(), stdin, append([]string{"env", "DOCKER_BUILDKIT=0", "docker", "-H", "unix://" + h.ShoalSocket()}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// proxied uses the engine of a host through its daemon. Standard input ends
// while output is still to come, so a stream must be closed in one direction.
func proxied(t *testing.T, s *site) {
	h := s.Host(3) // a worker: nothing of this is the cluster's
	if got := dockerInput(t, h, "hi\nthere\n", "run", "--rm", "-i", image, "/bin/cat", "/dev/stdin"); got != "hi\nthere" {
		t.Errorf("run -i: %q", got)
	}
	large := strings.Repeat("0123456789abcde\n", 1<<16) // 1 MiB
	if got := dockerInput(t, h, large, "run", "--rm", "-i", image, "/bin/cat", "/dev/stdin"); got != strings.TrimSpace(large) {
		t.Errorf("run -i with 1 MiB: %d bytes came back of %d", len(got), len(large))
	}
	docker(t, h, "run", "-d", "--name", "mine", image)
	if got := docker(t, h, "ps", "--format", "{{.Names}} {{.Image}}"); got != "mine web:1" {
		t.Errorf("ps: %q", got)
	}
	if got := dockerInput(t, h, "half\n", "exec", "-i", "mine", "/bin/cat", "/dev/stdin"); got != "half" {
		t.Errorf("exec -i: %q", got)
	}
	docker(t, h, "run", "--name", "said", image, "/bin/echo", "some", "words")
	if got := docker(t, h, "logs", "-f", "said"); got != "some\nwords" {
		t.Errorf("logs -f: %q", got)
	}
	if _, err := tryDocker(t, h, "run", "--rm", image, "/bin/exit", "7"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("run of a program that ends with 7: %v", err)
	}
	if got := dockerInput(t, h, "x", "cp", "mine:/bin/web", "-"); len(got) < 1<<20 {
		t.Errorf("cp: %d bytes", len(got))
	}
	docker(t, h, "rm", "-f", "mine", "said")
}

func built(t *testing.T, s *site) {
	h := s.Host(2)
	dockerInput(t, h, "FROM web:1\nLABEL made=here\nCMD [\"/bin/echo\", \"built\"]\n", "build", "-t", "built:1", "-")
	if got := docker(t, h, "run", "--rm", "built:1"); got != "built" {
		t.Errorf("the image that was built said %q", got)
	}
}

func events(t *testing.T, s *site) {
	h1 := s.Host(1)
	out := make(chan string, 1)
	ready := make(chan struct{})
	go func() {
		close(ready)
		said, err := tryDocker(t, h1, "events", "--since", time.Now().Add(-time.Second).Format(time.RFC3339Nano), "--until", time.Now().Add(4*time.Second).Format(time.RFC3339Nano))
		if err != nil {
			said = err.Error()
		}
		out <- said
	}()
	<-ready
	docker(t, h1, "service", "create", "--detach", "--name", "seen", "--constraint", "node.hostname==h1", image)
	s.converged(t, h1, "seen", 1)
	docker(t, h1, "service", "rm", "seen")
	said := <-out
	for _, want := range []string{"service create", "service remove", "container start", "container die"} {
		if !strings.Contains(said, want) {
			t.Errorf("events without %q:\n%s", want, said)
		}
	}
}

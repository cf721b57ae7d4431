//go:build docker

package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// through is the docker CLI on a socket whose calls about containers go through
// both ends of a relay to the local engine.
type through struct {
	t      *testing.T
	socket string
}

func newThrough(t *testing.T) *through {
	engine := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}
	log := slog.New(slog.DiscardHandler)
	node := httptest.NewUnstartedServer(&Door{
		Engine: engine, Log: log, Version: func(context.Context) string { return "" },
		Owns: func(labels map[string]string) bool { return labels["shoal.task.id"] != "" },
	})
	node.EnableHTTP2 = true
	node.StartTLS()
	caller := New(Config{Log: log, Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}} //nolint:gosec // a test
		return d.DialContext(ctx, "tcp", node.Listener.Addr().String())
	}})
	direct := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	direct.Transport = engine
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path := splitVersion(r.URL.Path)
		if _, _, ok := Carries(r.Method, path); !ok {
			direct.ServeHTTP(w, r)
			return
		}
		caller.Serve(w, r, Target{NodeID: "n", Name: "n", Path: r.URL.Path, Query: r.URL.RawQuery}, nil)
	}))
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	front.Listener.Close()
	front.Listener = listener
	front.Start()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		caller.Close()
		node.CloseClientConnections()
		node.Close()
		engine.CloseIdleConnections()
	})
	return &through{t, socket}
}

func (h *through) docker(stdin string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(h.t.Context()), "docker", append([]string{"-H", "unix://" + h.socket}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	_ = cmd.Run() // the exit code says how
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (h *through) must(args ...string) string {
	h.t.Helper()
	out, errs, code := h.docker("", args...)
	if code != 0 {
		h.t.Fatalf("docker %v: %d %s%s", args, code, out, errs)
	}
	return strings.TrimSpace(out)
}

// build makes an image of the program echo.
func (h *through) build() string {
	h.t.Helper()
	dir := h.t.TempDir()
	cmd := exec.CommandContext(h.t.Context(), "go", "build", "-o", filepath.Join(dir, "echo"), "./testdata/echo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY echo /echo\nENTRYPOINT [\"/echo\"]\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	name := "shoal-relay-test-" + strconv.Itoa(os.Getpid())
	h.t.Setenv("DOCKER_BUILDKIT", "0")
	h.must("build", "-q", "-t", name, dir)
	h.t.Cleanup(func() { h.must("rmi", "-f", name) })
	return name
}

// TestDockerCommandsThroughTheRelay: the stock CLI sees no difference.
func TestDockerCommandsThroughTheRelay(t *testing.T) {
	h := newThrough(t)
	image := h.build()
	id := h.must("run", "-d", "-i", "--label", "shoal.task.id=t1", image, "serve")
	t.Cleanup(func() { h.must("rm", "-f", id) })
	long := strings.Repeat("0123456789", 200_000)
	for _, c := range []struct {
		stdin, args, out, errs string
		code                   int
	}{
		{long, "exec -i " + id + " /echo cat", long, "done", 3},
		{"", "exec " + id + " /echo cat", "", "done", 3},
		{"", "exec -d " + id + " /echo cat", "", "", 0},
		{"", "exec -t " + id + " /nothing", "", "no such file or directory", 126},
		{"", "logs " + id, "begun\n", "", 0},
		{"", "logs --tail 0 " + id, "", "", 0},
		{"", "inspect -f {{.Id}} " + id, id + "\n", "", 0},
		{"", "port " + id, "", "", 0},
		{"", "diff " + id, "", "", 0},
	} {
		out, errs, code := h.docker(c.stdin, strings.Fields(c.args)...)
		if c.code == 126 {
			out, errs = "", out+errs
		}
		if out != c.out || !strings.Contains(errs, c.errs) || code != c.code {
			t.Errorf("docker %s: %d, %d bytes %.200q, %.200q", c.args, code, len(out), out, errs)
		}
	}
	if out := h.must("stats", "--no-stream", id); !strings.Contains(out, "MEM USAGE") {
		t.Errorf("stats: %q", out)
	}
	if out := h.must("top", id); !strings.Contains(out, "/echo") {
		t.Errorf("top: %q", out)
	}
	file := filepath.Join(t.TempDir(), "f")
	h.must("cp", id+":/echo", file)
	if info, err := os.Stat(file); err != nil || info.Size() < 1<<20 {
		t.Errorf("cp: %v, %v", info, err)
	}
	h.must("cp", file, id+":/copy")
	if out, _, code := h.docker("x", "exec", "-i", id, "/copy", "cat"); out != "x" || code != 3 {
		t.Errorf("the copy: %d %q", code, out)
	}
}

func TestDockerAttachThroughTheRelay(t *testing.T) {
	h := newThrough(t)
	image := h.build()
	id := h.must("create", "-i", "--label", "shoal.task.id=t1", image, "echo") // whose input ends with that of attach
	h.must("start", id)
	t.Cleanup(func() { h.must("rm", "-f", id) })
	if out, errs, code := h.docker("hello\n", "attach", id); out != "hello\n" || code != 0 {
		t.Errorf("attach: %d %q %q", code, out, errs)
	}
	if out := h.must("logs", "-f", id); out != "begun\nhello" {
		t.Errorf("logs: %q", out)
	}
	foreign := h.must("run", "-d", image, "serve")
	t.Cleanup(func() { h.must("rm", "-f", foreign) })
	if out, errs, code := h.docker("", "exec", foreign, "/echo", "cat"); code == 0 || !strings.Contains(errs, "neither of a task of this cluster") {
		t.Errorf("exec in a container that is none of the cluster's: %d %q %q", code, out, errs)
	}
}

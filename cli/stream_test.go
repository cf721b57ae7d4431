package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/stdcopy"
)

const logTask = "task1xxxxxxxxxxxxxxxxxxxxx"

// streamServer has service web, and its task web.1 as a container.
func streamServer(t *testing.T) *fakeServer {
	t.Helper()
	f := newFakeServer(t)
	f.addService("service1xxxxxxxxxxxxxxxxx", "web", 1)
	f.streams = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path == "/tasks/"+logTask {
			write(w, swarm.Task{ID: logTask, ServiceID: "service1xxxxxxxxxxxxxxxxx", Slot: 1})
			return true
		}
		if strings.HasSuffix(path, "/logs") {
			serveLogs(w, r, path)
			return true
		}
		return serveContainer(w, r, path)
	}
	return f
}

func serveLogs(w http.ResponseWriter, r *http.Request, path string) {
	stamp, details := "", ""
	if r.URL.Query().Get("timestamps") != "" {
		stamp = "2026-11-26T00:00:00.000000000Z "
	}
	if r.URL.Query().Get("details") != "" && strings.HasPrefix(path, "/services") {
		details = "a=b,com.docker.swarm.node.id=node1xxxxxxxxxxxxxxxxxxxxx,com.docker.swarm.service.id=service1xxxxxxxxxxxxxxxxx,com.docker.swarm.task.id=" + logTask + " "
	}
	fmt.Fprintf(stdcopy.NewStdWriter(w, stdcopy.Stdout), "%s%shello world\n", stamp, details)
	fmt.Fprintf(stdcopy.NewStdWriter(w, stdcopy.Stderr), "%s%soops tail=%s\n", stamp, details, r.URL.Query().Get("tail"))
}

func serveContainer(w http.ResponseWriter, r *http.Request, path string) bool {
	w.Header().Set("Content-Type", "application/json")
	switch path {
	case "/containers/web.1/json":
		write(w, container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{ID: "c1", State: &container.State{Running: true}}, Config: &container.Config{OpenStdin: true},
		})
	case "/containers/web.1/top":
		write(w, container.TopResponse{Titles: []string{"PID", "CMD"}, Processes: [][]string{{"1", "serve " + r.URL.Query().Get("ps_args")}}})
	case "/containers/web.1/stats":
		write(w, container.StatsResponse{
			Name: "/web.1.x", ID: "c1", PidsStats: container.PidsStats{Current: 3}, MemoryStats: container.MemoryStats{Usage: 3 << 20, Limit: 1 << 30, Stats: map[string]uint64{"inactive_file": 1 << 20}},
			CPUStats: container.CPUStats{OnlineCPUs: 2, SystemUsage: 200, CPUUsage: container.CPUUsage{TotalUsage: 50}}, PreCPUStats: container.CPUStats{SystemUsage: 100},
			Networks: map[string]container.NetworkStats{"eth0": {RxBytes: 1000, TxBytes: 2000}},
		})
	case "/containers/web.1/exec":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"Id":"e1"}`)
	case "/exec/e1/json":
		fmt.Fprint(w, `{"ID":"e1","ExitCode":3}`)
	case "/exec/e1/start", "/shoal/v1/forward/web.1":
		serveEcho(w, r, strings.HasPrefix(path, "/exec"))
	default:
		return false
	}
	return true
}

// serveEcho answers with what it is sent, in a frame for an exec.
func serveEcho(w http.ResponseWriter, r *http.Request, framed bool) {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	said, _ := io.ReadAll(in)
	var out io.Writer = conn
	if framed {
		out = stdcopy.NewStdWriter(conn, stdcopy.Stdout)
	}
	fmt.Fprintf(out, "%s?%s", said, r.URL.RawQuery)
}

func TestLogsSayWhoseEachLineIs(t *testing.T) {
	f := streamServer(t)
	for _, c := range []struct{ args, out, errs string }{
		{"service logs --tail 5 web", "web.1.task1xxxxxxx@host1    | hello world\n", "web.1.task1xxxxxxx@host1    | oops tail=5\n"},
		{"logs -t --details web", "2026-11-26T00:00:00.000000000Z web.1.task1xxxxxxx@host1    | a=b hello world\n", "2026-11-26T00:00:00.000000000Z web.1.task1xxxxxxx@host1    | a=b oops tail=all\n"},
		{"logs --no-task-ids --no-resolve web", "service1xxxxxxxxxxxxxxxxx.1@node1xxxxxxx    | hello world\n", "service1xxxxxxxxxxxxxxxxx.1@node1xxxxxxx    | oops tail=all\n"},
		{"logs --no-trunc web", "web.1." + logTask + "@host1    | hello world\n", "web.1." + logTask + "@host1    | oops tail=all\n"},
		{"logs --raw web", "hello world\n", "oops tail=all\n"},
		{"logs web.1", "hello world\n", "oops tail=all\n"},
	} {
		out, errs, code := f.run(t, strings.Fields(c.args)...)
		if out != c.out || errs != c.errs || code != 0 {
			t.Errorf("%s: %d\n%q\n%q", c.args, code, out, errs)
		}
	}
	if _, errs, code := f.run(t, "service", "logs", "none"); code != 1 || errs != "no such task or service: none\n" {
		t.Errorf("%d %q", code, errs)
	}
}

func TestExecHandsOnInputAndExitCode(t *testing.T) {
	f := streamServer(t)
	var out, errs bytes.Buffer
	code := Run(t.Context(), Config{Args: []string{"-H", f.host, "exec", "-i", "web.1", "cat", "-n"}, Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: &errs})
	if code != 3 || out.String() != "typed?" || errs.Len() > 0 {
		t.Errorf("%d %q %q", code, out.String(), errs.String())
	}
	code = Run(t.Context(), Config{Args: []string{"-H", f.host, "exec", "-it", "web.1", "sh"}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	if code != 1 || errs.String() != "the input device is not a TTY\n" {
		t.Errorf("%d %q", code, errs.String())
	}
}

func TestTopAndStats(t *testing.T) {
	f := streamServer(t)
	if out, errs, code := f.run(t, "top", "web.1", "-e", "f"); code != 0 || !strings.Contains(out, "serve -e f") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	out, errs, code := f.run(t, "stats", "--no-stream", "web.1")
	if want := []string{"web.1", "web.1.x", "100.00%", "2MiB / 1GiB", "0.20%", "1kB / 2kB", "0B / 0B", "3"}; code != 0 || strings.Join(strings.Fields(strings.Split(out, "\n")[1]), " ") != strings.Join(want, " ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

func TestPortForward(t *testing.T) {
	f := streamServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int)
	go func() {
		ended <- Run(ctx, Config{Args: []string{"-H", f.host, "port-forward", "web.1", "0:80"}, Stdout: w, Stderr: io.Discard})
	}()
	line := make([]byte, 100)
	n, err := r.Read(line)
	address, _, found := strings.Cut(strings.TrimPrefix(string(line[:n]), "Forwarding from "), " to port 80 of web.1")
	if err != nil || !found {
		t.Fatalf("%q, %v", line[:n], err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "hello?port=80" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	cancel()
	if code := <-ended; code != codeInterrupted {
		t.Errorf("exit code %d", code)
	}
	for _, ports := range []string{"x", "80:0", "70000", "1:2:3"} {
		if _, errs, code := f.run(t, "port-forward", "web.1", ports); code != 1 || !strings.Contains(errs, "invalid ports") {
			t.Errorf("%s: %d %q", ports, code, errs)
		}
	}
}

// copyServer is a container with a directory /dir that takes archives.
func copyServer(t *testing.T, archive []byte, stat container.PathStat) (f *fakeServer, taken *bytes.Buffer) {
	f, taken = newFakeServer(t), &bytes.Buffer{}
	f.streams = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path != "/containers/web.1/archive" {
			return false
		}
		if p := r.URL.Query().Get("path"); r.Method != http.MethodPut && p != "/dir" && p != "/dir/." && p != "/dir/f" {
			refuse(w, http.StatusNotFound, "Could not find the file "+p)
			return true
		}
		text, _ := json.Marshal(stat)
		w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(text))
		switch r.Method {
		case http.MethodGet:
			_, _ = w.Write(archive)
		case http.MethodPut:
			fmt.Fprintln(taken, "to", r.URL.Query().Get("path"))
			_ = listArchive(taken, r.Body)
		}
		return true
	}
	return f, taken
}

func listArchive(w io.Writer, r io.Reader) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err != nil {
			return err
		}
		content, _ := io.ReadAll(in)
		fmt.Fprintf(w, "%c %s %s%s\n", h.Typeflag, h.Name, content, h.Linkname)
	}
}

func TestCopyOutOfAContainer(t *testing.T) {
	source := filepath.Join(t.TempDir(), "dir")
	for name, content := range map[string]string{"a": "A", "sub/b": "B"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	if err := pack(&archive, source, "dir"); err != nil {
		t.Fatal(err)
	}
	f, _ := copyServer(t, archive.Bytes(), container.PathStat{Name: "dir", Mode: os.ModeDir | 0o755})
	here := t.TempDir()
	for _, c := range []struct{ from, to, want string }{
		{"/dir", here, "dir/sub/b"}, {"/dir", filepath.Join(here, "new"), "new/sub/b"}, {"/dir/.", filepath.Join(here, "flat"), "flat/sub/b"},
	} {
		if _, errs, code := f.run(t, "cp", "web.1:"+c.from, c.to); code != 0 {
			t.Errorf("%v: %d %s", c, code, errs)
		}
		if got, err := os.ReadFile(filepath.Join(here, c.want)); string(got) != "B" || err != nil {
			t.Errorf("%v: %q, %v", c, got, err)
		}
	}
	out, _, _ := f.run(t, "cp", "web.1:/dir", "-")
	if out != archive.String() {
		t.Errorf("an archive of %d bytes, want %d", len(out), archive.Len())
	}
	if _, errs, code := f.run(t, "cp", "web.1:/dir", filepath.Join(here, "new", "a")); code != 1 || !strings.Contains(errs, "is a file") {
		t.Errorf("%d %q", code, errs)
	}
}

func TestArchivesWriteNothingOutside(t *testing.T) {
	outside, dir := filepath.Join(t.TempDir(), "outside"), t.TempDir()
	for _, entries := range [][]*tar.Header{
		{{Name: "dir/../../escaped", Typeflag: tar.TypeReg}},
		{{Name: "dir/link", Typeflag: tar.TypeSymlink, Linkname: filepath.Dir(outside)}, {Name: "dir/link/outside", Typeflag: tar.TypeReg}},
		{{Name: "dir/up", Typeflag: tar.TypeSymlink, Linkname: "../../.."}, {Name: "dir/up/escaped", Typeflag: tar.TypeReg}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755})
		for _, h := range entries {
			h.Mode = 0o644
			_ = w.WriteHeader(h)
		}
		_ = w.Close()
		err := unpack(&b, dir, "dir")
		if _, there := os.Lstat(outside); there == nil {
			t.Errorf("%v: written outside, %v", entries[0].Name, err)
		}
		if _, there := os.Lstat(filepath.Join(filepath.Dir(dir), "escaped")); there == nil {
			t.Errorf("%v: escaped, %v", entries[0].Name, err)
		}
	}
}

func TestCopyIntoAContainer(t *testing.T) {
	f, taken := copyServer(t, nil, container.PathStat{Name: "dir", Mode: os.ModeDir | 0o755})
	here := t.TempDir()
	source := filepath.Join(here, "src")
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "a"), []byte("A"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(source, "l")); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{source, "/dir", "to /dir\n5 src/ \n0 src/a A\n2 src/l a\n"},
		{source + "/.", "/dir", "to /dir\n5 ./ \n0 a A\n2 l a\n"},
		{source, "/new", "to /\n5 new/ \n0 new/a A\n2 new/l a\n"},
		{filepath.Join(source, "a"), "/etc/b", "to /etc/\n0 b A\n"},
	} {
		taken.Reset()
		if _, errs, code := f.run(t, "cp", c[0], "web.1:"+c[1]); code != 0 || taken.String() != c[2] {
			t.Errorf("%v: %d %s%q", c[:2], code, errs, taken.String())
		}
	}
	for _, args := range [][]string{{source, here}, {"a:/x", "b:/y"}} {
		if _, errs, code := f.run(t, append([]string{"cp"}, args...)...); code != 1 || !strings.Contains(errs, "one of source and target") {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
}

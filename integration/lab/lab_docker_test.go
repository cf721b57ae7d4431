//go:build docker

package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func webProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "web")
	if err := Build(t.Context(), "shoal/examples/web", program); err != nil {
		t.Fatal(err)
	}
	return program
}

func docker(t *testing.T, h *Host, args ...string) string {
	t.Helper()
	out, err := h.Docker(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func TestFiveEnginesRunContainersAndLeaveNothing(t *testing.T) {
	image := WebImage("web:1", webProgram(t))
	start := time.Now()
	l := ForTest(t, Config{Hosts: 5})
	t.Logf("five engines after %v", time.Since(start))
	if err := l.LoadImage(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	engines, images := map[string]bool{}, map[string]bool{}
	for _, h := range l.Hosts() {
		engines[docker(t, h, "info", "-f", "{{.ID}}")] = true
		images[docker(t, h, "image", "inspect", "-f", "{{.Id}}", "web:1")] = true
		if name := docker(t, h, "info", "-f", "{{.Name}}"); name != h.Name {
			t.Errorf("engine of %s calls itself %q", h.Name, name)
		}
		if out := docker(t, h, "run", "--rm", "web:1", "echo", "from", h.Name); out != "from\n"+h.Name {
			t.Errorf("container on %s said %q", h.Name, out)
		}
		docker(t, h, "run", "-d", "web:1", "sleep", "1000000") // Close has something to end
	}
	if len(engines) != 5 {
		t.Errorf("five engines have %d IDs", len(engines))
	}
	if len(images) != 1 {
		t.Errorf("one image has %d IDs", len(images))
	}
	t.Logf("a container run on each, at %v", time.Since(start))
}

func TestContainerAnswersThroughTheHostsAddress(t *testing.T) {
	l := ForTest(t, Config{Hosts: 2})
	if err := l.LoadImage(t.Context(), WebImage("web:1", webProgram(t))); err != nil {
		t.Fatal(err)
	}
	docker(t, l.Host(1), "run", "-d", "-p", "80:8080", "-e", "VERSION=7", "web:1")
	reachable(t, l.Host(2), "web", "check", "http://"+l.Host(1).Addr)
	if got := docker(t, l.Host(1), "ps", "-q"); got == "" {
		t.Error("the container does not run")
	}
}

// reachable waits until the image's check passes, from a container of h.
func reachable(t *testing.T, h *Host, argv ...string) {
	t.Helper()
	err := WaitFor(t.Context(), 10*time.Second, "an answer", func() (string, bool) {
		_, err := h.Docker(t.Context(), append([]string{"run", "--rm", "web:1"}, argv...)...)
		if err != nil {
			return err.Error(), false
		}
		return "", true
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPowerCutKeepsTheDiskOnly(t *testing.T) {
	l := ForTest(t, Config{Hosts: 1})
	h := l.Host(1)
	if err := l.LoadImage(t.Context(), WebImage("web:1", webProgram(t))); err != nil {
		t.Fatal(err)
	}
	id := docker(t, h, "run", "-d", "web:1", "stubborn")
	engine := docker(t, h, "info", "-f", "{{.ID}}")
	start := time.Now()
	if err := h.PowerOff(); err != nil {
		t.Fatal(err)
	}
	t.Logf("off after %v", time.Since(start))
	if leaks := l.leakedProcesses(); len(leaks) != 2 { // the switch's init and sleep
		t.Errorf("processes after the power cut: %q", leaks)
	}
	if h.On() || h.Engine().Running() {
		t.Error("the host is still on")
	}
	if _, err := h.Run(t.Context(), "true"); err == nil {
		t.Error("a command ran on a host that is off")
	}
	if err := h.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.StartEngine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := docker(t, h, "info", "-f", "{{.ID}}"); again != engine {
		t.Errorf("engine %s came back as %s", engine, again)
	}
	if state := docker(t, h, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id); !strings.HasPrefix(state, "exited") {
		t.Errorf("the container is %s after the power cut", state)
	}
}

func TestEngineCanBeKilledPausedAndRestarted(t *testing.T) {
	l := ForTest(t, Config{Hosts: 1, EngineArgs: []string{"--live-restore"}})
	h := l.Host(1)
	if err := l.LoadImage(t.Context(), WebImage("web:1", webProgram(t))); err != nil {
		t.Fatal(err)
	}
	id := docker(t, h, "run", "-d", "web:1", "sleep", "1000000")
	pid := docker(t, h, "inspect", "-f", "{{.State.Pid}}", id)

	if err := h.Engine().Pause(); err != nil {
		t.Fatal(err)
	}
	paused, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := h.Docker(paused, "version"); err == nil {
		t.Error("a paused engine answered")
	}
	if err := h.Engine().Resume(); err != nil {
		t.Fatal(err)
	}
	docker(t, h, "version")

	if err := h.Engine().Kill9(); err != nil {
		t.Fatal(err)
	}
	if h.Engine().Running() {
		t.Error("the engine runs after kill -9")
	}
	if err := h.Engine().Kill9(); err == nil {
		t.Error("a dead engine was killed again")
	}
	if err := h.StartEngine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := docker(t, h, "inspect", "-f", "{{.State.Pid}}", id); again != pid {
		t.Errorf("with live restore process %s became %s", pid, again)
	}
	if err := h.StopEngine(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.StartEngine(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.StartEngine(t.Context()); err == nil {
		t.Error("a second engine started beside the first")
	}
}

func TestEngineThatDoesNotStartSaysWhyAndLeavesNothing(t *testing.T) {
	dir := filepath.Join(os.TempDir(), "shoal-bad-engine")
	_, err := New(t.Context(), Config{Dir: dir, Hosts: 1, EngineArgs: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("error %v, want the engine's own words", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left behind", dir)
	}
}

func TestSwarmFormsOnTheLab(t *testing.T) {
	start := time.Now()
	l := ForTest(t, Config{Hosts: 3})
	if err := l.FormSwarm(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	t.Logf("a swarm after %v", time.Since(start))
	nodes := docker(t, l.Host(1), "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
	if want := "h1 Leader\nh2 \nh3"; nodes != want {
		t.Errorf("nodes %q, want %q", nodes, want)
	}
}

// TestLabDiesWithItsMaker kills a process that has a lab, as a test that is
// interrupted or runs out of time.
func TestLabDiesWithItsMaker(t *testing.T) {
	if os.Getenv("SHOAL_LAB_VICTIM") != "" {
		victim(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLabDiesWithItsMaker$")
	cmd.Env = append(os.Environ(), "SHOAL_LAB_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	num, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatalf("the victim said %q", line[:n])
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	err = WaitFor(t.Context(), 10*time.Second, "the lab's link to go", func() (string, bool) { return "", !linkExists(num) })
	if err != nil {
		t.Error(err)
	}
	if _, err := Sweep(); err != nil {
		t.Error(err)
	}
	if leaks := (&Lab{cfg: Config{Dir: defaultDir(num)}, num: num}).Leaks(); len(leaks) > 0 {
		t.Errorf("left behind: %q", leaks)
	}
}

func victim(t *testing.T) {
	l, err := New(t.Context(), Config{Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(strconv.Itoa(l.num) + "\n")
	<-t.Context().Done() // killed here
}

func TestTwoLabsLiveSideBySide(t *testing.T) {
	one := ForTest(t, Config{Hosts: 2, NoEngines: true})
	two := ForTest(t, Config{Hosts: 2, NoEngines: true})
	if one.Host(1).Addr == two.Host(1).Addr || one.Dir() == two.Dir() {
		t.Fatalf("both labs have %s in %s", one.Host(1).Addr, one.Dir())
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if name, err := two.Host(2).Run(t.Context(), "hostname"); err != nil || strings.TrimSpace(name) != "h2" {
		t.Errorf("after the end of the first lab, a host of the second is %q, err %v", name, err)
	}
}

//go:build docker

package executor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/id"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/file"
)

// withFiles is a run whose tasks receive values, in files below dir.
func withFiles(t *testing.T, dir string, values ...assignment.Value) *dockerRun {
	files, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the containers
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return newDockerRunWith(t, newShelf(values...), files)
}

// describe tells what a process sees of a file: owner, mode, kind of mount and
// content.
func describe(t *testing.T, pid int, path string) string {
	t.Helper()
	seen := fmt.Sprintf("/proc/%d/root%s", pid, path)
	info, err := os.Stat(seen)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	mounted := "not mounted"
	for line := range strings.Lines(string(mounts)) {
		fields, kind, _ := strings.Cut(line, " - ")
		if f := strings.Fields(fields); f[4] == path {
			mounted = strings.Fields(kind)[0] + " " + strings.Split(f[5], ",")[0]
		}
	}
	owner := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %o %s: %s", owner.Uid, owner.Gid, info.Mode().Perm(), mounted, content)
}

func TestDockerSecretsAndConfigs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "files", id.New())
	d := withFiles(t, dir, value("s1", "hunter2"), value("c1", "x=1"), templated("c2", `{{secret "db"}} {{env "SLOT"}}`))
	task := with(d.task("serve"), func(c *swarm.ContainerSpec) {
		c.Env, c.User, c.ReadOnly = []string{"SLOT={{.Task.Slot}}"}, "1000", true
		c.Secrets = []*swarm.SecretReference{secretRef("s1", "db")}
		c.Configs = []*swarm.ConfigReference{configRef("c1", "app.conf"), configRef("c2", "/etc/deep/er.conf")}
	})
	d.x.Set(set(task), true)
	s := d.until(task.ID, taskstate.Running)
	want := map[string]string{
		"/run/secrets/db":   "7:8 440 tmpfs ro: hunter2",
		"/app.conf":         "0:0 444 tmpfs ro: x=1",
		"/etc/deep/er.conf": "0:0 444 tmpfs ro: hunter2 1",
	}
	for path, want := range want {
		if got := describe(t, s.PID, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if out, err := exec.Command("docker", "inspect", s.ContainerID).Output(); err != nil || strings.Contains(string(out), "hunter2") {
		t.Errorf("docker inspect: %v, shows the secret: %s", err, out)
	}

	// The daemon is away, and somebody restarts the container.
	d.halt()
	if out, err := exec.Command("docker", "restart", "-t", "5", s.ContainerID).CombinedOutput(); err != nil {
		t.Fatalf("docker restart: %v: %s", err, out)
	}
	d.mu.Lock()
	delete(d.seen, task.ID)
	d.mu.Unlock()
	d.boot()
	task.Status = s
	d.x.Set(set(task), false)
	s = d.untilPID(task.ID, s.PID)
	for path, want := range want {
		if got := describe(t, s.PID, path); got != want {
			t.Errorf("after a restart, %s: %s, want %s", path, got, want)
		}
	}

	if left, err := filepath.Glob(dir + "/*/*"); err != nil || len(left) != 3 {
		t.Errorf("files %v, %v", left, err)
	}
	d.x.Set(set(desired(task, taskstate.Remove)), true)
	d.untilEmpty()
	if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) != 0 {
		t.Errorf("files %v are left, %v", left, err)
	}
}

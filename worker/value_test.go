package worker

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// withSecret is down with a task that has a secret.
func withSecret(id string, desired taskstate.State) assignment.Down {
	d := down(id, desired)
	d.Specs[0].Task.ContainerSpec.Secrets = []*swarm.SecretReference{{
		SecretID: "s1", SecretName: "db", File: &swarm.SecretReferenceFileTarget{Name: "db", Mode: 0o400},
	}}
	d.Values = []assignment.Value{{ID: "s1", Data: assignment.Data("canary of the secret")}}
	return d
}

// shared is a directory on a tmpfs that anybody may use.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shoal-test-")
	if err != nil {
		t.Skip("no shared memory")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "files")
}

// holds reports whether a file below dir holds the text.
func holds(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSecretsAreInMemoryOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file to another")
	}
	dir, fake, m := t.TempDir(), engine.NewFake("probe"), newManager(t)
	c := config(t, dir, fake, m)
	c.FileDir = shared(t)
	w, halt := run(t, c)
	m.downs <- withSecret("t1", taskstate.Running)
	m.until(t, "t1", taskstate.Running)
	if !holds(t, c.FileDir, "canary") {
		t.Error("the task has not got its secret")
	}
	halt()
	if holds(t, dir, "canary") {
		t.Error("the secret is on disk")
	}
	if text, err := w.vault.load(); err != nil || len(text.Tasks) != 1 {
		t.Errorf("remembered %+v, %v", text, err)
	}

	// In its next life it has to ask for the secret again, and the task keeps it.
	w, halt = run(t, c)
	for said := false; !said; {
		select {
		case up := <-m.ups: // what its last life has reported may come first
			if said = up.Hello != nil; said && len(up.Hello.Values) != 0 {
				t.Errorf("says it has %+v", up.Hello)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no session")
		}
	}
	if _, ok, all := w.values.Value("s1"); ok || all {
		t.Error("the secret has survived the worker")
	}
	again := withSecret("t1", taskstate.Shutdown)
	again.Forget = []string{"s1"}
	again.Values = nil
	if !holds(t, c.FileDir, "canary") {
		t.Error("a restart took the secret from the task")
	}
	m.downs <- again
	m.until(t, "t1", taskstate.Shutdown)
	halt()
	if err := Purge(t.Context(), "", fake, c.ClusterID, c.FileDir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.FileDir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", c.FileDir, err)
	}
}

func TestValuesFollowTheLines(t *testing.T) {
	v := newValues()
	v.apply(assignment.Down{Index: 1, Values: []assignment.Value{{ID: "a"}, {ID: "b"}}})
	if _, ok, all := v.Value("a"); !ok || all {
		t.Errorf("a: %v, all %v", ok, all)
	}
	v.apply(assignment.Down{Full: true, Forget: []string{"a", "c"}})
	if _, ok, all := v.Value("a"); ok || !all {
		t.Errorf("a: %v, all %v", ok, all)
	}
	if ids := v.ids(); len(ids) != 1 || ids[0] != "b" {
		t.Errorf("has %v", ids)
	}
}

package executor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/file"
)

// shelf is values and files in memory.
type shelf struct {
	mu     sync.Mutex
	values map[string]assignment.Value
	all    bool
	files  map[string][]file.File
	err    error // of Put and Remove
}

func newShelf(values ...assignment.Value) *shelf {
	s := &shelf{values: map[string]assignment.Value{}, files: map[string][]file.File{}}
	s.send(values...)
	return s
}

// send is what a manager does: all that there is.
func (s *shelf) send(values ...assignment.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.values[v.ID] = v
	}
	s.all = len(values) > 0
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shelf) Value(id string) (assignment.Value, bool, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[id]
	return v, ok, s.all
}

func (s *shelf) Put(taskID string, files []file.File) (paths []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[taskID] = files
	for i := range files {
		paths = append(paths, fmt.Sprintf("/run/files/%s/%d", taskID, i))
	}
	return paths, s.err
}

func (s *shelf) Remove(taskID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		delete(s.files, taskID)
	}
	return s.err
}

func (s *shelf) Tasks() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files)), nil
}

func (s *shelf) file(taskID string, i int) file.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files[taskID]) <= i {
		return file.File{}
	}
	return s.files[taskID][i]
}

func value(id, data string) assignment.Value {
	return assignment.Value{ID: id, Data: assignment.Data(data)}
}

func templated(id, data string) assignment.Value {
	return assignment.Value{ID: id, Data: assignment.Data(data), Template: true}
}

func secretRef(id, target string) *swarm.SecretReference {
	return &swarm.SecretReference{SecretID: id, SecretName: "name of " + id, File: &swarm.SecretReferenceFileTarget{Name: target, UID: "7", GID: "8", Mode: 0o440}}
}

func configRef(id, target string) *swarm.ConfigReference {
	return &swarm.ConfigReference{ConfigID: id, ConfigName: "name of " + id, File: &swarm.ConfigReferenceFileTarget{Name: target, Mode: 0o444}}
}

// withValues is a task with a secret and a config.
func withValues(id string, desired taskstate.State) assignment.Task {
	return with(aTask(id, desired, "serve"), func(c *swarm.ContainerSpec) {
		c.Env = []string{"COLOUR=red-{{.Task.Slot}}"}
		c.Secrets, c.Configs = []*swarm.SecretReference{secretRef("s1", "db")}, []*swarm.ConfigReference{configRef("c1", "etc/app.conf")}
	})
}

// valueHarness runs test with an executor whose task has the values of s.
func valueHarness(t *testing.T, s *shelf, test func(h *harness)) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake("probe")
		h := &harness{t: t, fake: fake, values: s, files: s, seen: map[string][]taskstate.Status{}}
		h.boot()
		defer h.halt()
		test(h)
	})
}

func TestFilesAreMountedAndGoWithTheTask(t *testing.T) {
	s := newShelf(value("s1", "hunter2"), value("c1", "x=1"))
	valueHarness(t, s, func(h *harness) {
		task := withValues("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(time.Second)
		h.want("t1", taskstate.Running, "")
		secret, config := s.file("t1", 0), s.file("t1", 1)
		if string(secret.Data) != "hunter2" || secret.UID != 7 || secret.GID != 8 || secret.Mode != 0o440 {
			t.Errorf("secret %+v", secret)
		}
		if string(config.Data) != "x=1" || config.UID != 0 || config.GID != 0 || config.Mode != 0o444 {
			t.Errorf("config %+v", config)
		}
		bind := func(i int, target string) mount.Mount {
			return mount.Mount{
				Type: mount.TypeBind, Source: fmt.Sprintf("/run/files/t1/%d", i), Target: target, ReadOnly: true,
				BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
			}
		}
		want := []mount.Mount{bind(0, "/run/secrets/db"), bind(1, "/etc/app.conf")}
		spec, _ := h.fake.Spec(h.containers()[0].ID)
		if diff := cmp.Diff(want, spec.HostConfig.Mounts); diff != "" {
			t.Errorf("mounts (-want +got):\n%s", diff)
		}
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(time.Second)
		h.want("t1", taskstate.Shutdown, "")
		if ids, _ := s.Tasks(); len(ids) != 0 || len(h.containers()) != 1 {
			t.Errorf("files of %v are left with %d containers", ids, len(h.containers()))
		}
	})
}

func TestARestartedWorkerWaitsForWhatIsOnNoDisk(t *testing.T) {
	s := newShelf()
	valueHarness(t, s, func(h *harness) {
		h.x.Set(set(withValues("t1", taskstate.Running)), false)
		h.after(time.Minute)
		h.want("t1", taskstate.Preparing, "waiting for a manager to send secret name of s1")
		s.send(value("s1", "hunter2"), value("c1", "x=1"))
		h.x.Set(set(withValues("t1", taskstate.Running)), true)
		h.after(time.Second) // less than its pause
		h.want("t1", taskstate.Running, "")
	})
}

func TestARestartLeavesFilesOfRunningTasks(t *testing.T) {
	s := newShelf(value("s1", "hunter2"), value("c1", "x=1"))
	valueHarness(t, s, func(h *harness) {
		task := withValues("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(time.Second)
		h.halt()
		s.send() // nothing
		s.values = map[string]assignment.Value{}
		_, _ = s.Put("gone", nil)
		h.boot()
		task.Status = h.last("t1")
		h.x.Set(set(task), false)
		h.after(time.Minute)
		h.want("t1", taskstate.Running, "")
		if ids, _ := s.Tasks(); !slices.Equal(ids, []string{"gone", "t1"}) {
			t.Errorf("before a manager answers there are files of %v", ids)
		}
		h.x.Set(set(task), true)
		h.after(time.Minute)
		if ids, _ := s.Tasks(); !slices.Equal(ids, []string{"t1"}) {
			t.Errorf("there are files of %v", ids)
		}
		h.x.Set(nil, true)
		h.after(time.Minute)
		if ids, _ := s.Tasks(); len(ids) != 0 || len(h.containers()) != 0 {
			t.Errorf("there are files of %v and %d containers", ids, len(h.containers()))
		}
	})
}

func TestFilesThatCannotBeMadeEndTheTask(t *testing.T) {
	s := newShelf(value("s1", "hunter2"), value("c1", "x=1"))
	valueHarness(t, s, func(h *harness) {
		s.fail(errors.New("no room"))
		h.x.Set(set(withValues("t1", taskstate.Running)), true)
		h.after(time.Second)
		h.want("t1", taskstate.Rejected, "files of the task: no room")
		if ids, _ := s.Tasks(); len(ids) != 1 {
			t.Errorf("files of %v", ids)
		}
		s.fail(nil) // they are removed as soon as that works
		h.after(10 * time.Second)
		if ids, _ := s.Tasks(); len(ids) != 0 {
			t.Errorf("files of %v are left", ids)
		}
	})
}

func TestWhatIsNotInTheClusterEndsTheTask(t *testing.T) {
	s := newShelf(value("s1", "hunter2"))
	valueHarness(t, s, func(h *harness) {
		h.x.Set(set(withValues("t1", taskstate.Running)), true)
		h.after(time.Second)
		h.want("t1", taskstate.Rejected, "config not found: name of c1")
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.x.Set(set(withValues("t1", taskstate.Running)), true)
		h.after(time.Second)
		h.want("t1", taskstate.Rejected, "Secrets and Configs are not available on this node")
	})
}

func TestTemplatesInValues(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{"plain", "plain", ""},
		{`{{.Service.Name}} {{.Task.Name}} {{.Node.ID}}`, "web web.1.t1 node1", ""},
		{`{{env "COLOUR"}}|{{env "NONE"}}`, "red-1|", ""},
		{`{{secret "db"}}@{{config "etc/app.conf"}}`, "hunter2@x=1", ""},
		{`{{join "," "a" "b"}}`, "a,b", ""},
		{"a\n{{secret `nope`}}", "", "invalid template of config name of c2: error in line 2"},
		{`{{.Nope}}`, "", `can't evaluate field Nope`},
		{`{{.Service.Labels.x}}`, "", `map has no entry for key "x"`},
		{`{{range 100000}}` + strings.Repeat("x", 100) + `{{end}}`, "", "the result is longer than 4194304 bytes"},
	} {
		s := newShelf(value("s1", "hunter2"), value("c1", "x=1"), templated("c2", c.text))
		valueHarness(t, s, func(h *harness) {
			task := with(withValues("t1", taskstate.Running), func(spec *swarm.ContainerSpec) {
				spec.Configs = append(slices.Clone(spec.Configs), configRef("c2", "out"))
			})
			h.x.Set(set(task), true)
			h.after(time.Second)
			if got := h.last("t1"); c.err == "" && got.State != taskstate.Running || !strings.Contains(got.Err, c.err) || strings.Contains(got.Err, "hunter2") {
				t.Errorf("%s: %s %q", c.text, got.State, got.Err)
			}
			if got := string(s.file("t1", 2).Data); c.err == "" && got != c.want {
				t.Errorf("%s: %q, want %q", c.text, got, c.want)
			}
		})
	}
}

// What is wrong with the template of a secret is told without quoting it.
func TestErrorsDoNotQuoteSecrets(t *testing.T) {
	for _, text := range []string{"{{canary", "{{.canary}}", "x\n{{index .Service.Labels `canary` 3}}", "{{printf `%d` `canary` | canary}}"} {
		s := newShelf(templated("s1", text), value("c1", "x=1"))
		valueHarness(t, s, func(h *harness) {
			h.x.Set(set(withValues("t1", taskstate.Running)), true)
			h.after(time.Second)
			got := h.last("t1")
			if got.State != taskstate.Rejected || strings.Contains(got.Err, "canary") || !strings.Contains(got.Err, "template of secret name of s1") {
				t.Errorf("%q: %s %q", text, got.State, got.Err)
			}
		})
	}
}

package executor

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

func imageTask(id, image, auth string) assignment.Task {
	t := with(aTask(id, taskstate.Running), func(c *swarm.ContainerSpec) { c.Image = image })
	t.Spec.RegistryAuth = auth
	return t
}

func TestWhenImagesArePulled(t *testing.T) {
	pinned := "reg.example/app@sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		name   string
		local  string // on the node
		remote string // in the registry
		image  string
		pulls  int
		state  taskstate.State
	}{
		{"tag of a registry, here and there", "reg.example/app", "reg.example/app", "reg.example/app", 1, taskstate.Running},
		{"tag of a registry, only there", "other", "reg.example/app", "reg.example/app", 1, taskstate.Running},
		{"tag of a registry, only here", "reg.example/app", "other", "reg.example/app", 1, taskstate.Running},
		{"digest that is here", pinned, pinned, pinned, 0, taskstate.Running},
		{"digest that is not here", "other", pinned, pinned, 1, taskstate.Running},
		{"built here, names no registry", "app", "app", "app", 0, taskstate.Running},
		{"nowhere", "other", "other", "reg.example/app", 1, taskstate.Rejected},
		{"no name at all", "other", "other", "UPPER::", 0, taskstate.Rejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := engine.NewFake(c.local)
				fake.Publish(c.remote)
				h := newHarness(t, fake)
				h.x.Set(set(imageTask("t1", c.image, "")), true)
				h.after(time.Second)
				if got := h.last("t1"); got.State != c.state || fake.Calls("Pull") != c.pulls {
					t.Errorf("%+v after %d pulls, want %s after %d", got, fake.Calls("Pull"), c.state, c.pulls)
				}
			})
		})
	}
}

// The registry has a newer image than the node, if it has one at all.
func TestPullPolicies(t *testing.T) {
	for _, c := range []struct {
		name, local, remote string
		run                 runspec.Spec
		pulls               int
		state               taskstate.State
		err                 string
	}{
		{"always, here and there", "reg.example/app", "reg.example/app", runspec.Spec{Pull: "always"}, 1, taskstate.Running, ""},
		{"always, only here", "reg.example/app", "other", runspec.Spec{Pull: "always"}, 1, taskstate.Rejected, "pull image reg.example/app"},
		{"missing, here", "reg.example/app", "reg.example/app", runspec.Spec{Pull: "missing"}, 0, taskstate.Running, ""},
		{"missing, only there", "other", "reg.example/app", runspec.Spec{Pull: "missing"}, 1, taskstate.Running, ""},
		{"missing, nowhere", "other", "other", runspec.Spec{Pull: "missing"}, 1, taskstate.Rejected, "pull image"},
		{"never, here", "reg.example/app", "reg.example/app", runspec.Spec{Pull: "never"}, 0, taskstate.Running, ""},
		{"never, only there", "other", "reg.example/app", runspec.Spec{Pull: "never"}, 0, taskstate.Rejected, "No such image: reg.example/app"},
		{"other platform here", "reg.example/app", "reg.example/app", runspec.Spec{Pull: "missing", Platform: "linux/arm64"}, 1, taskstate.Running, ""},
		{"same platform here", "reg.example/app", "reg.example/app", runspec.Spec{Pull: "missing", Platform: "linux"}, 0, taskstate.Running, ""},
		{"other platform, never", "reg.example/app", "reg.example/app", runspec.Spec{Pull: "never", Platform: "linux/arm64"}, 0, taskstate.Rejected, "wanted linux/arm64, actual: linux/amd64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := engine.NewFake(c.local)
				fake.Publish(c.remote)
				h := newHarness(t, fake)
				task := imageTask("t1", "reg.example/app", "")
				task.Spec.Run = &c.run
				h.x.Set(set(task), true)
				h.after(time.Second)
				if got := h.last("t1"); got.State != c.state || !strings.Contains(got.Err, c.err) || fake.Calls("Pull") != c.pulls {
					t.Errorf("%+v after %d pulls, want %s after %d", got, fake.Calls("Pull"), c.state, c.pulls)
				}
			})
		})
	}
}

func TestImageIDIsNotPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake("app")
		img, err := fake.Image(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		h := newHarness(t, fake)
		h.x.Set(set(imageTask("t1", img.ID, "")), true)
		h.after(0)
		h.want("t1", taskstate.Running, "")
		if fake.Calls("Pull") != 0 {
			t.Error("an image id was pulled")
		}
	})
}

func TestPullErrorIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake())
		h.x.Set(set(imageTask("t1", "reg.example/app", "")), true)
		h.after(0)
		if got := h.last("t1"); !strings.Contains(got.Err, "pull access denied for reg.example/app") {
			t.Errorf("reason: %q", got.Err)
		}
	})
}

func TestDeafRegistryIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake("reg.example/app", "reg.example/tool")
		fake.Delay("Pull", time.Hour)
		h := newHarness(t, fake)
		h.x.Set(set(imageTask("t1", "reg.example/app", "")), false)
		h.after(answerTime + time.Millisecond)
		h.want("t1", taskstate.Running, "")
		h.x.Set(set(imageTask("t2", "reg.example/tool", "")), false)
		h.after(0)
		h.want("t2", taskstate.Running, "")
		h.after(deafTime)
		h.x.Set(set(imageTask("t3", "reg.example/tool", "")), false)
		h.after(0)
		h.want("t3", taskstate.Preparing, "") // asked again
	})
}

func TestManyTasksPullOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake()
		fake.Publish("reg.example/app")
		fake.Delay("Pull", time.Second)
		h := newHarness(t, fake)
		var tasks []assignment.Task
		for i := range 50 {
			tasks = append(tasks, imageTask(fmt.Sprintf("t%d", i), "reg.example/app", fmt.Sprint("auth", i%2)))
		}
		h.x.Set(tasks, true)
		h.after(5 * time.Second)
		for _, task := range tasks {
			h.want(task.ID, taskstate.Running, "")
		}
		if got := fake.Calls("Pull"); got != 2 {
			t.Errorf("%d pulls, want one for each of 2 credentials", got)
		}
	})
}

func TestOfflineNeverPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake()
		fake.Publish("reg.example/app")
		p := newPuller(fake, discard(), true, 1)
		if err := p.ensure(t.Context(), request{image: "reg.example/app"}); err != nil || fake.Calls("Pull") != 0 {
			t.Errorf("ensure: %v after %d pulls", err, fake.Calls("Pull"))
		}
	})
}

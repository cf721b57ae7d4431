package executor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/taskstate"
	"shoal/worker/engine"
)

// Words of Docker Engines and registries.
const (
	tooMany  = "toomanyrequests: You have reached your pull rate limit"
	noLogin  = "Get \"https://reg.example/v2/app/manifests/latest\": no basic auth credentials"
	badLogin = "Head \"https://reg.example/v2/app/manifests/latest\": unauthorized: authentication required"
)

func TestBusyRegistryIsAskedAgain(t *testing.T) {
	pinned := "reg.example/app@sha256:" + strings.Repeat("a", 64)
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake()
		fake.Publish(pinned)
		fake.Fail("Pull", 3, errors.New(tooMany))
		h := newHarness(t, fake)
		h.x.Set(set(imageTask("t1", pinned, ""), imageTask("t2", pinned, "")), true)
		h.after(time.Millisecond)
		if got := h.last("t1"); got.State != taskstate.Preparing || !strings.Contains(got.Err, "pull image "+pinned+": registry reg.example is too busy and will be asked again: ") || !strings.Contains(got.Err, tooMany) {
			t.Errorf("while the registry is busy: %s %q", got.State, got.Err)
		}
		h.after(30 * time.Second)
		h.want("t1", taskstate.Running, "")
		h.want("t2", taskstate.Running, "")
		if got := fake.Calls("Pull"); got != 4 {
			t.Errorf("%d pulls, want 3 that fail and one for both tasks", got)
		}
	})
}

func TestBusyRegistryIsLeftAloneMoreAndMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake()
		fake.Fail("Pull", -1, errors.New("received unexpected HTTP status: 503 Service Unavailable"))
		h := newHarness(t, fake)
		h.x.Set(set(imageTask("t1", "reg.example/app", "")), true)
		h.after(patience - time.Second)
		if got := h.last("t1"); got.State != taskstate.Preparing || fake.Calls("Pull") < 4 || fake.Calls("Pull") > 12 {
			t.Errorf("after %s: %s after %d pulls", patience-time.Second, got.State, fake.Calls("Pull"))
		}
		h.after(restMax + 10*time.Second)
		if got := h.last("t1"); got.State != taskstate.Rejected || !strings.Contains(got.Err, "registry reg.example has been too busy for 2m0s") {
			t.Errorf("in the end: %s %q", got.State, got.Err)
		}
	})
}

func TestBusyRegistryDoesNotKeepWhatIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake("reg.example/app")
		fake.Fail("Pull", -1, errors.New(tooMany))
		h := newHarness(t, fake)
		h.x.Set(set(imageTask("t1", "reg.example/app", "")), true)
		h.after(0)
		h.want("t1", taskstate.Running, "")
	})
}

func TestRefusedCredentialsEndTheTaskWithWhatToDo(t *testing.T) {
	const empty, login = "e30=", "eyJ1c2VybmFtZSI6ImFubiIsInBhc3N3b3JkIjoieCJ9"
	for _, c := range []struct{ name, image, auth, said, want string }{
		{"none", "reg.example/app", "", noLogin, "; no credentials for registry reg.example came with the service: docker login reg.example, then docker service update --with-registry-auth web"},
		{"empty ones", "reg.example/app", empty, noLogin, "; no credentials for registry reg.example came with the service: docker login reg.example, "},
		{"wrong ones", "reg.example/app", login, badLogin, "; registry reg.example refuses the credentials that came with the service: docker login reg.example, then "},
		{"of Docker Hub", "ann/app", "", "pull access denied for ann/app, repository does not exist", "; no credentials for registry docker.io came with the service: docker login, then "},
		{"another error", "reg.example/app", "", "manifest unknown", "pull image reg.example/app: manifest unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := engine.NewFake()
				fake.Fail("Pull", -1, errors.New(c.said))
				h := newHarness(t, fake)
				h.x.Set(set(imageTask("t1", c.image, c.auth)), true)
				h.after(time.Minute)
				got := h.last("t1")
				if got.State != taskstate.Rejected || !strings.HasPrefix(got.Err, "pull image "+c.image+": "+c.said) || !strings.Contains(got.Err, c.want) || fake.Calls("Pull") != 1 {
					t.Errorf("%s %q after %d pulls, want ...%q", got.State, got.Err, fake.Calls("Pull"), c.want)
				}
				if c.auth != "" && strings.Contains(got.Err, c.auth) {
					t.Error("the credentials are in the error")
				}
			})
		})
	}
}

func TestANodeWaitsForItsTurnToPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake("reg.example/here")
		fake.Publish("reg.example/app")
		fake.Publish("reg.example/here")
		h := newHarness(t, fake)
		held := imageTask("t1", "reg.example/app", "")
		held.Hold = true
		here := imageTask("t2", "reg.example/here", "")
		here.Hold = true
		h.x.Set(set(held, here), true)
		h.after(turnTime - time.Second)
		h.want("t1", taskstate.Preparing, "")
		h.want("t2", taskstate.Running, "")
		held.Hold = false
		h.x.Set(set(held, here), true)
		h.after(0)
		h.want("t1", taskstate.Running, "")
		held.Hold = true // the word of a manager that is behind
		h.x.Set(set(held, here), true)
		h.after(0)
		h.want("t1", taskstate.Running, "")
	})
}

func TestWithoutAWordANodePullsInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake()
		fake.Publish("reg.example/app")
		h := newHarness(t, fake)
		held := imageTask("t1", "reg.example/app", "")
		held.Hold = true
		h.x.Set(set(held), true)
		h.after(turnTime - time.Second)
		h.want("t1", taskstate.Preparing, "")
		h.after(turnTime/5 + 2*time.Second)
		h.want("t1", taskstate.Running, "")
	})
}

func TestATaskThatWaitsForItsTurnCanBeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake())
		held := imageTask("t1", "reg.example/app", "")
		held.Hold = true
		h.x.Set(set(held), true)
		h.after(time.Second)
		h.x.Set(set(desired(held, taskstate.Shutdown)), true)
		h.after(0)
		h.want("t1", taskstate.Shutdown, "")
	})
}

func TestWhatRegistriesSayIsUnderstood(t *testing.T) {
	for text, want := range map[string]string{
		// by Docker Engine 20.10 of a registry that answers so, or hangs up
		tooMany: "busy", "error parsing HTTP 429 response body: invalid character 'b' looking for beginning of value: \"busy\"": "busy",
		"Head \"http://127.0.0.1:5999/v2/a/b/manifests/1\": EOF": "busy", "received unexpected HTTP status: 500 Internal Server Error": "busy",
		"unexpected status code https://reg.example/v2/app/manifests/1: 429 Too Many Requests": "busy", // by later ones
		"received unexpected HTTP status: 502 Bad Gateway":                                     "busy", "read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer": "busy",
		"Get \"https://reg.example/v2/\": dial tcp 10.0.0.1:443: connect: connection refused": "unreachable", "lookup reg.example: no such host": "unreachable",
		noLogin: "auth", badLogin: "auth", "manifest for reg.example/app:1 not found: manifest unknown": "",
	} {
		err := fmt.Errorf("%w: %s", errdefs.ErrUnknown, text)
		got := ""
		switch {
		case unreachable(err):
			got = "unreachable"
		case busy(err):
			got = "busy"
		case refusesAuth(err):
			got = "auth"
		}
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	if gone := fmt.Errorf("%w: %s", errdefs.ErrUnavailable, "unexpected EOF"); busy(gone) || unreachable(gone) {
		t.Error("an engine that is gone is taken for its registry")
	}
}

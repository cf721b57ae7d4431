package executor

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/taskstate"
	"shoal/overlay"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// stubNetwork attaches every task to the same networks.
type stubNetwork struct {
	attachment engine.Attachment
	errs       []error // for the first calls
}

func (s *stubNetwork) Attach(context.Context, assignment.Task) (engine.Attachment, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return engine.Attachment{}, err
	}
	return s.attachment, nil
}

// onNetworks is a harness with an overlay and the gateway network.
func onNetworks(t *testing.T) (*harness, *stubNetwork) {
	t.Helper()
	fake := engine.NewFake("probe")
	n := testNetworks(t, fake)
	return newHarnessOn(t, fake, n), n
}

func testNetworks(t *testing.T, fake *engine.Fake) *stubNetwork {
	t.Helper()
	make := func(name, subnet string) string {
		p := netip.MustParsePrefix(subnet)
		id, err := fake.CreateNetwork(t.Context(), engine.NetworkSpec{
			Name: name, Bridge: name, Subnets: []engine.Subnet{{Prefix: p, Gateway: p.Addr().Next()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	return &stubNetwork{attachment: engine.Attachment{
		Endpoints: []engine.Endpoint{
			{NetworkID: make("web", "10.0.1.0/24"), Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.9")}},
			{NetworkID: make(overlay.MeshBridge, "10.252.1.0/24")},
		},
		DNS: []netip.Addr{netip.MustParseAddr("10.0.1.1")},
	}}
}

func networked(id string, desired taskstate.State, args ...string) assignment.Task {
	t := aTask(id, desired, args...)
	t.Networks = []assignment.TaskNetwork{{NetworkID: "web"}}
	return t
}

func (h *harness) timeouts() float64 {
	r := prometheus.NewRegistry()
	r.MustRegister(h.x.metrics.withdrawTimeouts)
	got, err := r.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	return got[0].GetMetric()[0].GetCounter().GetValue()
}

func TestTaskRunsOnItsNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := onNetworks(t)
		h.x.Set(set(networked("t1", taskstate.Running)), true)
		h.after(0)
		h.want("t1", taskstate.Running, "")
		addr := cmpopts.EquateComparable(netip.Addr{})
		if diff := cmp.Diff([]netip.Addr{netip.MustParseAddr("10.252.1.2")}, h.last("t1").Addrs, addr); diff != "" {
			t.Errorf("reported addresses (-want +got):\n%s", diff)
		}
		c := h.containers()[0]
		if diff := cmp.Diff([]netip.Addr{netip.MustParseAddr("10.0.1.9")}, c.Addrs["web"], addr); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
		if spec, _ := h.fake.Spec(c.ID); !cmp.Equal(spec.HostConfig.DNS, []string{"10.0.1.1"}) {
			t.Errorf("resolvers: %v", spec.HostConfig.DNS)
		}
	})
}

func TestTaskOnNetworksThatAreNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.x.Set(set(networked("t1", taskstate.Running)), true)
		h.after(0)
		h.want("t1", taskstate.Rejected, "network web is not available on this node")
	})
	synctest.Test(t, func(t *testing.T) {
		h, n := onNetworks(t)
		n.errs = []error{errdefs.ErrUnavailable.WithMessage("not yet"), errdefs.ErrUnavailable.WithMessage("not yet")}
		h.x.Set(set(networked("t1", taskstate.Running)), true)
		h.after(0)
		h.want("t1", taskstate.Preparing, "not yet")
		h.after(time.Second)
		h.want("t1", taskstate.Running, "")
	})
	synctest.Test(t, func(t *testing.T) {
		h, n := onNetworks(t)
		n.errs = []error{errdefs.ErrPermissionDenied.WithMessage("in the way")}
		h.x.Set(set(networked("t1", taskstate.Running)), true)
		h.after(0)
		h.want("t1", taskstate.Rejected, "in the way")
	})
}

// TestHalfConnectedContainerIsFinished breaks off between the networks of a
// container, before and after each call, with and without the daemon.
func TestHalfConnectedContainerIsFinished(t *testing.T) {
	for name, breakOff := range map[string]func(*harness){
		"connect fails":            func(h *harness) { h.fake.Fail("Connect", 2, errdefs.ErrUnavailable) },
		"answer lost":              func(h *harness) { h.fake.Cut("Connect", 2) },
		"answer of create lost":    func(h *harness) { h.fake.Cut("Create", 1) },
		"daemon killed in between": func(h *harness) { h.fake.Delay("Connect", time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := onNetworks(t)
				h.after(0)
				breakOff(h)
				task := networked("t1", taskstate.Running)
				h.x.Set(set(task), true)
				h.after(time.Second)
				if name == "daemon killed in between" {
					task.Status = h.last("t1")
					h.halt()
					h.fake.Fail("Connect", 0, nil)
					h.boot()
					h.x.Set(set(task), true)
				}
				h.after(time.Minute)
				h.want("t1", taskstate.Running, "")
				if got := h.containers(); len(got) != 1 || len(got[0].Addrs) != 2 || got[0].Partial {
					t.Errorf("containers: %+v, want one on two networks", got)
				}
			})
		})
	}
}

func TestTaskStopsOnceWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := onNetworks(t)
		task := networked("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(0)
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(withdrawTime - 2*time.Second)
		h.want("t1", taskstate.Running, "")
		task.Withdrawn = true
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(settleTime - time.Millisecond)
		h.want("t1", taskstate.Running, "")
		h.after(2 * time.Millisecond)
		h.want("t1", taskstate.Shutdown, "")
		if got := h.timeouts(); got != 0 {
			t.Errorf("%v timeouts counted", got)
		}
	})
}

func TestTaskThatNobodyWithdrawsStopsAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := onNetworks(t)
		task := networked("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(0)
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(time.Second)
		h.x.Set(set(desired(task, taskstate.Remove)), true) // that does not begin anew
		h.after(withdrawTime - time.Second - time.Millisecond)
		if got := h.fake.Calls("Stop"); got != 0 {
			t.Errorf("stopped %d times before its time", got)
		}
		h.after(2 * time.Millisecond)
		h.want("t1", taskstate.Shutdown, "")
		if got := h.timeouts(); got != 1 {
			t.Errorf("%v timeouts counted, want 1", got)
		}
	})
}

func TestWhatIsNotWithheld(t *testing.T) {
	for name, end := range map[string]func(*harness, assignment.Task){
		"no longer assigned": func(h *harness, _ assignment.Task) { h.x.Set(nil, true) },
		"ended by itself": func(h *harness, task assignment.Task) {
			h.x.Set(set(desired(task, taskstate.Shutdown)), true)
			h.after(0)
			h.fake.Kill(h.last("t1").ContainerID, 0, false)
		},
		"given up": func(h *harness, task assignment.Task) {
			task.Status = taskstate.Status{State: taskstate.Orphaned}
			h.x.Set(set(task), true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := onNetworks(t)
				task := networked("t1", taskstate.Running)
				h.x.Set(set(task), true)
				h.after(0)
				end(h, task)
				h.after(0)
				for _, c := range h.containers() {
					if c.State == engine.Running {
						t.Errorf("runs on: %+v", c)
					}
				}
				h.after(time.Minute)
				if got := h.timeouts(); got != 0 {
					t.Errorf("%v timeouts counted", got)
				}
			})
		})
	}
}

func TestTaskThatWasNeverHealthyIsNotWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := onNetworks(t)
		task := with(networked("t1", taskstate.Running), func(c *swarm.ContainerSpec) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "ok"}, Interval: time.Hour}
		})
		h.x.Set(set(task), true)
		h.after(0)
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(0)
		h.want("t1", taskstate.Shutdown, "")
	})
}

package network

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"shoal/worker/assignment"
	"shoal/worker/engine"
)

func TestTaskIsAttached(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(web(), internal()), 1)
		got, err := h.Attach(t.Context(), task(internal(), web()))
		if err != nil {
			t.Fatal(err)
		}
		have := h.networks()
		want := engine.Attachment{
			Endpoints: []engine.Endpoint{
				{NetworkID: have["db"].ID, Addrs: []netip.Addr{addr("10.0.2.10"), addr("fd00:2::a")}},
				{NetworkID: have["web"].ID, Addrs: []netip.Addr{addr("10.0.1.10")}},
				{NetworkID: have["shoal_gw"].ID},
			},
			DNS: []netip.Addr{addr("10.0.2.1")},
		}
		if diff := cmp.Diff(want, got, addrs()); diff != "" {
			t.Errorf("attachment (-want +got):\n%s", diff)
		}
		made := h.fake.Calls("CreateNetwork")
		if again, err := h.Attach(t.Context(), task(internal(), web())); err != nil || !cmp.Equal(got, again, addrs()) || h.fake.Calls("CreateNetwork") != made {
			t.Errorf("attached again: %+v, err %v", again, err)
		}
	})
}

func TestInternalTaskHasNoWayOut(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(internal()), 1)
		got, err := h.Attach(t.Context(), task(internal()))
		if have := h.networks(); err != nil || len(got.Endpoints) != 1 || len(have) != 1 {
			t.Errorf("attachment %+v, err %v, networks %v", got, err, have)
		}
	})
}

func TestPublishedTaskWithoutNetworksIsOnTheGatewayNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(), 1)
		got, err := h.Attach(t.Context(), assignment.Task{Networks: []assignment.TaskNetwork{{NetworkID: "ingress", Ingress: true}}})
		if err != nil || len(got.Endpoints) != 1 || got.Endpoints[0].NetworkID != h.networks()["shoal_gw"].ID || len(got.DNS) != 0 {
			t.Errorf("attachment %+v, err %v", got, err)
		}
	})
}

func TestAttachWaitsForTheManagers(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		_, err := h.Attach(t.Context(), task(web()))
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "network netweb0123456789") {
			t.Errorf("nothing is known: %v", err)
		}
		h.Apply(&assignment.Fabric{Full: true, Networks: []assignment.Network{web()}}, 1)
		if _, err = h.Attach(t.Context(), task(web())); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "gateway subnet") {
			t.Errorf("the node has no subnet: %v", err)
		}
		done := make(chan error)
		go func() {
			_, err := h.Attach(t.Context(), task(web()))
			done <- err
		}()
		h.after(20 * time.Second)
		h.Apply(&assignment.Fabric{Peers: []assignment.Peer{self()}}, 2)
		if err := <-done; err != nil {
			t.Errorf("all is known: %v", err)
		}
	})
}

func TestAttachWaitsForTheDataPlane(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(web()), 1)
		h.after(0)
		h.plane.hold(true)
		h.Apply(fabric(web(), internal()), 2)
		done := make(chan error, 1)
		go func() {
			_, err := h.Attach(t.Context(), task(internal()))
			done <- err
		}()
		h.after(time.Second)
		select {
		case err := <-done:
			t.Errorf("attached before the plane was ready: %v", err)
		default:
		}
		h.plane.hold(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		h.plane.fail(errors.New("no such device"))
		if _, err := h.Attach(t.Context(), task(internal())); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no such device") {
			t.Errorf("attached with a broken plane: %v", err)
		}
	})
}

func TestPlaneLooksAgainAtNewBridges(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.fake.Down(true)
		h.SetEngine(false)
		h.Apply(fabric(web()), 1)
		h.after(0)
		before := h.plane.count()
		h.fake.Down(false)
		h.SetEngine(true)
		h.after(0)
		if h.plane.count() == before || len(h.networks()) != 2 {
			t.Errorf("plane told %d times before, %d after; networks %v", before, h.plane.count(), h.networks())
		}
	})
}

func TestLinesAreAcknowledgedOnceInEffect(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(nil, 1) // nothing to wait for
		h.after(0)
		h.Apply(fabric(), 2)
		h.after(0)
		h.plane.hold(true)
		for index := range uint64(3) {
			h.Apply(fabric(web()), 3+index)
		}
		h.Apply(nil, 6) // not before what is older
		h.after(time.Minute)
		if diff := cmp.Diff([]uint64{1, 2}, h.acks()); diff != "" {
			t.Errorf("while the plane is busy (-want +got):\n%s", diff)
		}
		h.plane.hold(false)
		h.after(0)
		if got := h.acks(); len(got) > 4 || got[len(got)-1] != 6 {
			t.Errorf("acknowledged %d, want 6 last and few", got)
		}
	})
}

func TestWhatFailsIsNotAcknowledgedAndTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.plane.fail(errors.New("no buffer space"))
		h.Apply(fabric(web()), 1)
		h.after(time.Minute)
		if got := h.acks(); len(got) != 0 {
			t.Errorf("acknowledged %d", got)
		}
		h.plane.fail(nil)
		h.after(3 * time.Second)
		if got := h.acks(); !slices.Equal(got, []uint64{1}) {
			t.Errorf("acknowledged %d", got)
		}
	})
}

func TestNetworksGoWithTheLastContainer(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(web(), internal()), 1)
		a, err := h.Attach(t.Context(), task(web()))
		if err != nil {
			t.Fatal(err)
		}
		id, err := h.fake.Create(t.Context(), engine.Spec{Name: "c", Config: &container.Config{Image: "probe"}, Endpoints: a.Endpoints})
		if err == nil {
			err = h.fake.Start(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.Apply(&assignment.Fabric{Gone: &assignment.Gone{Networks: []string{web().ID, internal().ID}}}, 2)
		h.after(time.Second)
		if have := h.networks(); len(have) != 2 || have["web"].ID == "" {
			t.Errorf("networks %v, want the gateway's and the one in use", have)
		}
		h.fake.Kill(id, 0, false)
		h.after(keepPeriod)
		if have := h.networks(); len(have) != 1 || have["shoal_gw"].ID == "" {
			t.Errorf("networks %v, want the gateway's", have)
		}
	})
}

func TestRestartedDaemonGoesOnWithoutManagers(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(web()), 1)
		if _, err := h.Attach(t.Context(), task(web())); err != nil {
			t.Fatal(err)
		}
		before, known := h.networks(), h.Known()
		h.halt()
		// On disk there is less than there was: nothing may be taken down for that.
		for _, k := range []*assignment.Known{known, {Peers: known.Peers}, nil} {
			again := boot(t, h.fake, k)
			again.after(2 * keepPeriod)
			if diff := cmp.Diff(before, again.networks(), addrs()); diff != "" {
				t.Errorf("networks (-before +after):\n%s", diff)
			}
			if k == nil && again.plane.count() != 0 {
				t.Error("a plane was told of an empty fabric")
			}
			if k == known {
				if _, err := again.Attach(t.Context(), task(web())); err != nil {
					t.Errorf("attach: %v", err)
				}
			}
			again.halt()
		}
		h.halt = func() {}
	})
}

func TestNetworkThatDiffersIsReplacedWhenItIsFree(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(web()), 1)
		a, err := h.Attach(t.Context(), task(web()))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := h.fake.Create(t.Context(), engine.Spec{Name: "c", Config: &container.Config{Image: "probe"}, Endpoints: a.Endpoints})
		if err := h.fake.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		other := web()
		other.MTU = 1300
		h.Apply(fabric(other), 2)
		if b, err := h.Attach(t.Context(), task(other)); err != nil || b.Endpoints[0].NetworkID != a.Endpoints[0].NetworkID {
			t.Errorf("another MTU while it is in use: %+v, err %v", b, err)
		}
		other.Pools = []assignment.Pool{{Subnet: prefix("10.0.7.0/24"), Gateway: addr("10.0.7.1")}}
		h.Apply(fabric(other), 3)
		if _, err := h.Attach(t.Context(), task(other)); !errdefs.IsUnavailable(err) {
			t.Errorf("another subnet while it is in use: %v, want unavailable", err)
		}
		h.fake.Kill(id, 0, false)
		if _, err := h.Attach(t.Context(), task(other)); err != nil || h.networks()["web"].Subnets[0].Prefix != other.Pools[0].Subnet {
			t.Errorf("free: %v, err %v", h.networks()["web"], err)
		}
	})
}

func TestWhatIsInTheWay(t *testing.T) {
	foreign := func(change func(*engine.NetworkSpec)) engine.NetworkSpec {
		s := networkSpec(web(), "elsewhere", 1450, true)
		s.Name, s.Bridge, s.Subnets = "other", "br-other", []engine.Subnet{{Prefix: prefix("10.99.0.0/24"), Gateway: addr("10.99.0.1")}}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		there engine.NetworkSpec
		want  string // name of the network, or text of the error
	}{
		"a name of the user's":       {foreign(func(s *engine.NetworkSpec) { s.Name, s.Labels = "web", nil }), "web.netweb012345"},
		"a left cluster's":           {foreign(func(s *engine.NetworkSpec) { s.Name, s.Bridge = "web", "shoalb1001" }), "web"},
		"a subnet of the user's":     {foreign(func(s *engine.NetworkSpec) { s.Subnets, s.Labels = networkSpec(web(), "", 0, true).Subnets, nil }), "is in the way"},
		"a gateway of the user's":    {foreign(func(s *engine.NetworkSpec) { s.Name, s.Labels = "shoal_gw", nil }), "make network shoal_gw"},
		"another cluster's, apart":   {foreign(func(*engine.NetworkSpec) {}), "web"},
		"a name of a left cluster's": {foreign(func(s *engine.NetworkSpec) { s.Name = "shoal_gw" }), "web"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *harness) {
				if _, err := h.fake.CreateNetwork(t.Context(), c.there); err != nil {
					t.Fatal(err)
				}
				h.Apply(fabric(web()), 1)
				_, err := h.Attach(t.Context(), task(web()))
				if err != nil {
					if !strings.Contains(err.Error(), c.want) {
						t.Errorf("attach: %v, want %q", err, c.want)
					}
					return
				}
				if got := h.networks()[c.want]; got.Labels[NetworkLabel] != web().ID || got.Labels[ClusterLabel] != testCluster {
					t.Errorf("networks %v, want %s", h.networks(), c.want)
				}
			})
		})
	}
}

func TestEngineThatFailsIsAskedAgain(t *testing.T) {
	for _, method := range []string{"Networks", "CreateNetwork"} {
		for _, lose := range []bool{false, true} {
			bubble(t, func(t *testing.T, h *harness) {
				h.SetEngine(false)
				if lose {
					h.fake.Cut(method, 2)
				} else {
					h.fake.Fail(method, 2, errdefs.ErrUnavailable)
				}
				h.Apply(fabric(web()), 1)
				tries := 0
				for tries < 4 {
					tries++
					if _, err := h.Attach(t.Context(), task(web())); err == nil {
						break
					} else if !errdefs.IsUnavailable(err) {
						t.Errorf("%s: %v, want unavailable", method, err)
					}
				}
				if tries == 4 || len(h.networks()) != 2 {
					t.Errorf("%s, answers lost %v: %d tries, networks %v", method, lose, tries, h.networks())
				}
			})
		}
	}
}

func TestContainersThatAreNoTasks(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Apply(fabric(web()), 1)
		id, err := h.Ready(t.Context(), web().ID)
		gateway, gatewayErr := h.GatewayReady(t.Context())
		if have := h.networks(); err != nil || id != have["web"].ID || gatewayErr != nil || gateway != have["shoal_gw"].ID {
			t.Errorf("ready: %s, %v; gateway: %s, %v", id, err, gateway, gatewayErr)
		}
		if _, err := h.Ready(t.Context(), "nothing"); !errdefs.IsUnavailable(err) {
			t.Errorf("unknown network: %v", err)
		}
	})
}

func TestPurgeRemovesTheClustersNetworks(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		other := networkSpec(internal(), "another", 1450, true)
		if _, err := h.fake.CreateNetwork(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		h.Apply(fabric(web()), 1)
		a, err := h.Attach(t.Context(), task(web()))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := h.fake.Create(t.Context(), engine.Spec{Name: "c", Config: &container.Config{Image: "probe"}, Endpoints: a.Endpoints})
		if err := h.fake.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		h.SetEngine(false)
		if err := Purge(t.Context(), h.fake, testCluster); err != nil || len(h.networks()) != 1 {
			t.Errorf("purge: %v, left %v; want that of the other cluster", err, h.networks())
		}
		if err := Purge(t.Context(), h.fake, ""); err == nil {
			t.Error("a purge of every cluster")
		}
	})
}

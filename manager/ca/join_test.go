package ca

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/pki"
	"shoal/raftstore/state/statetest"
)

func TestJoinMakesANodeOfTheTokensRole(t *testing.T) {
	f := newFixture(t)
	tokens := f.tokens(t)
	for token, role := range map[string]pki.Role{tokens.Worker: pki.RoleWorker, tokens.Manager: pki.RoleManager} {
		r := request(t)
		r.Token, r.Availability = token, "drain"
		got, err := f.Join(t.Context(), r, somewhere(2))
		if err != nil {
			t.Fatal(err)
		}
		want := pki.Identity{NodeID: got.NodeID, Role: role, ClusterID: f.cluster.ID}
		if identity := identityIn(t, got.Certificate); identity != want || got.Role != role || got.ClusterID != f.cluster.ID {
			t.Errorf("certificate of %v, want %v", identity, want)
		}
		if string(got.RootCert) != string(f.cluster.RootCert) || len(got.GossipKeys) != 1 {
			t.Errorf("answer lacks the root or the gossip key: %+v", got)
		}
		var others []string
		for _, m := range got.Managers {
			others = append(others, m.NodeID)
		}
		if !strings.Contains(strings.Join(others, " "), f.manager.ID) || strings.Contains(strings.Join(others, " "), got.NodeID) {
			t.Errorf("managers %v, want %s but not %s", others, f.manager.ID, got.NodeID)
		}
		node := f.store.View().Node(got.NodeID)
		if node == nil || node.Spec.Role != swarm.NodeRole(role) || node.Spec.Availability != swarm.NodeAvailabilityDrain ||
			node.Status.State != swarm.NodeStateUnknown || node.Status.Addr != "10.0.0.2" || node.Addr != r.Addr ||
			node.GossipAddr != r.GossipAddr || node.Description.Hostname != "host-2" || node.Spec.Labels == nil {
			t.Errorf("node is %+v", node)
		}
	}
}

func TestJoinAgainIsTheSameNode(t *testing.T) {
	f := newFixture(t)
	r := request(t)
	r.Token = f.tokens(t).Worker
	first, err := f.Join(t.Context(), r, somewhere(2))
	if err != nil {
		t.Fatal(err)
	}
	updates := f.store.Updates()
	second, err := f.Join(t.Context(), r, somewhere(2))
	if err != nil || second.NodeID != first.NodeID {
		t.Errorf("second join: %v, %v, want node %s", second, err, first.NodeID)
	}
	if f.store.Updates() != updates {
		t.Error("the second join changed state")
	}
	// An operator drained it meanwhile; its address is new.
	node := *f.store.View().Node(first.NodeID)
	node.Spec.Availability = swarm.NodeAvailabilityDrain
	node.Status.State = swarm.NodeStateDown
	f.store.Put(&node)
	r.Addr = "10.0.0.9:2377"
	if _, err := f.Join(t.Context(), r, somewhere(9)); err != nil {
		t.Fatal(err)
	}
	got := f.store.View().Node(first.NodeID)
	if got.Addr != "10.0.0.9:2377" || got.Status.Addr != "10.0.0.9" || got.Spec.Availability != swarm.NodeAvailabilityDrain || got.Status.State != swarm.NodeStateDown {
		t.Errorf("node is %+v", got)
	}
}

func TestJoinWithAnEarlierCertificateKeepsTheID(t *testing.T) {
	f := newFixture(t)
	root, _ := pki.ParseRoot(f.cluster.RootCert, f.cluster.RootKey)
	f.store.Put(statetest.Node("w1"), statetest.Node("m1", statetest.Manager))
	_, csr, _ := pki.NewKeyAndCSR()
	_, otherCSR, _ := pki.NewKeyAndCSR()
	long := time.Now().Add(-200 * 24 * time.Hour)
	certify := func(root *pki.Root, identity pki.Identity) []byte {
		certPEM, err := root.Sign(csr, identity, pki.DefaultValidity, long)
		if err != nil {
			t.Fatal(err)
		}
		return certPEM
	}
	foreign, _ := pki.NewRoot(long)
	w1 := pki.Identity{NodeID: "w1", Role: pki.RoleWorker, ClusterID: f.cluster.ID}
	m1 := pki.Identity{NodeID: "m1", Role: pki.RoleWorker, ClusterID: f.cluster.ID} // from before its promotion
	client := pki.Identity{NodeID: "w1", Role: pki.RoleClient, ClusterID: f.cluster.ID}
	tokens := f.tokens(t)
	for _, c := range []struct {
		name  string
		token string
		csr   []byte
		cert  []byte
		want  string // node id or error
	}{
		{"expired, own key", tokens.Worker, csr, certify(root, w1), "w1"},
		{"manager with its token", tokens.Manager, csr, certify(root, m1), "m1"},
		{"manager with a worker's token", tokens.Worker, csr, certify(root, m1), "use a manager's join token"},
		{"another key", tokens.Worker, otherCSR, certify(root, w1), "is not who signed csr"},
		{"another root", tokens.Worker, csr, certify(foreign, w1), "certificate: not of this cluster"},
		{"client", tokens.Worker, csr, certify(root, client), "is not who signed csr"},
		{"no certificate", tokens.Worker, csr, []byte("x"), "certificate: want exactly one PEM block"},
	} {
		r := request(t)
		r.Token, r.CSR, r.Certificate = c.token, c.csr, c.cert
		got, err := f.Join(t.Context(), r, somewhere(2))
		switch {
		case err == nil && got.NodeID != c.want:
			t.Errorf("%s: joined as %s", c.name, got.NodeID)
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: err %v, want %q", c.name, err, c.want)
		}
	}
	if role := f.store.View().Node("m1").Spec.Role; role != swarm.NodeRoleManager {
		t.Errorf("m1 became a %s", role)
	}
}

func TestJoinFillsInTheHostThatItSees(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ addr, from, want string }{
		{":2377", "10.0.0.7", "10.0.0.7:2377"},
		{"0.0.0.0:2377", "10.0.0.7", "10.0.0.7:2377"},
		{"[::]:2377", "fd00::7", "[fd00::7]:2377"},
		{"10.1.1.1:2377", "10.0.0.7", "10.1.1.1:2377"},
		{":2377", "::ffff:10.0.0.7", "10.0.0.7:2377"},
	} {
		r := request(t)
		r.Token, r.Addr = f.tokens(t).Worker, c.addr
		got, err := f.Join(t.Context(), r, netip.MustParseAddr(c.from))
		if err != nil || got.Addr != c.want || f.store.View().Node(got.NodeID).Addr != c.want {
			t.Errorf("%s from %s: %+v, %v, want %s", c.addr, c.from, got, err, c.want)
		}
	}
}

func TestJoinNamesTheBadField(t *testing.T) {
	f := newFixture(t)
	before := f.store.View().Index()
	for _, c := range []struct {
		name  string
		spoil func(*pki.JoinRequest)
		want  string
	}{
		{"no csr", func(r *pki.JoinRequest) { r.CSR = nil }, "csr: want exactly one PEM block"},
		{"junk csr", func(r *pki.JoinRequest) { r.CSR = []byte("-----BEGIN") }, "csr: "},
		{"no addr", func(r *pki.JoinRequest) { r.Addr = "" }, `addr: "" is not host:port`},
		{"addr without port", func(r *pki.JoinRequest) { r.Addr = "10.0.0.2" }, `addr: "10.0.0.2" is not host:port`},
		{"addr with a name", func(r *pki.JoinRequest) { r.Addr = "host:2377" }, `addr: "host:2377" names no address`},
		{"addr multicast", func(r *pki.JoinRequest) { r.Addr = "224.0.0.1:2377" }, `addr: "224.0.0.1:2377" names no address`},
		{"port zero", func(r *pki.JoinRequest) { r.Addr = "10.0.0.2:0" }, "addr: port"},
		{"port too high", func(r *pki.JoinRequest) { r.Addr = "10.0.0.2:65536" }, "addr: port"},
		{"port a word", func(r *pki.JoinRequest) { r.GossipAddr = "10.0.0.2:http" }, "gossipAddr: port"},
		{"no gossip addr", func(r *pki.JoinRequest) { r.GossipAddr = "" }, "gossipAddr: "},
		{"no hostname", func(r *pki.JoinRequest) { r.Hostname = "" }, "hostname: must have 1 to 253"},
		{"long hostname", func(r *pki.JoinRequest) { r.Hostname = strings.Repeat("x", 254) }, "has 254"},
		{"hostname with newline", func(r *pki.JoinRequest) { r.Hostname = "a\nb" }, "hostname: "},
		{"hostname with escape", func(r *pki.JoinRequest) { r.Hostname = "a\x1b[2J" }, "hostname: "},
		{"availability", func(r *pki.JoinRequest) { r.Availability = "Active" }, `availability: "Active", allowed are active, pause and drain`},
	} {
		r := request(t)
		r.Token = f.tokens(t).Worker
		c.spoil(&r)
		_, err := f.Join(t.Context(), r, somewhere(2))
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err %v, want %q", c.name, err, c.want)
		}
	}
	if f.store.View().Index() != before {
		t.Error("a bad request changed state")
	}
}

func TestJoinRefusesBadTokens(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	good := f.tokens(t).Worker
	guess := good[:len(good)-1] + "0"
	if guess == good {
		guess = good[:len(good)-1] + "1"
	}
	mixed := good[:60] + other.tokens(t).Worker[60:]
	foreignDigest := other.tokens(t).Worker[:60] + good[60:] // our secret, another root
	for i, c := range []struct {
		token string
		want  error
	}{
		{"", pki.ErrTokenRefused},
		{"x", pki.ErrInvalidToken},
		{guess, pki.ErrTokenRefused},
		{mixed, pki.ErrTokenRefused},
		{foreignDigest, pki.ErrTokenRefused},
		{other.tokens(t).Manager, pki.ErrTokenRefused},
	} {
		r := request(t)
		r.Token = c.token
		if _, err := f.Join(t.Context(), r, somewhere(byte(i))); !errors.Is(err, c.want) {
			t.Errorf("token %q: err %v, want %v", c.token, err, c.want)
		}
	}
	if strings.Contains(f.log.String(), guess[60:]) || strings.Contains(f.log.String(), good[60:]) {
		t.Errorf("the log holds a token:\n%s", f.log)
	}
}

func TestJoinNoticesARotationInBetween(t *testing.T) {
	f := newFixture(t)
	r := request(t)
	r.Token = f.tokens(t).Worker
	a, err := readApplication(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.RotateTokens(t.Context(), pki.RoleWorker); err != nil {
		t.Fatal(err)
	}
	if _, err := f.admit(t.Context(), a, r.Token); !errors.Is(err, pki.ErrTokenRefused) {
		t.Errorf("err %v, want ErrTokenRefused", err)
	}
}

func TestJoinReportsTheStoresError(t *testing.T) {
	f := newFixture(t)
	f.store.Fail(errdefs.ErrUnavailable)
	r := request(t)
	r.Token = f.tokens(t).Worker
	if _, err := f.Join(t.Context(), r, somewhere(2)); !errdefs.IsUnavailable(err) {
		t.Errorf("err %v, want unavailable", err)
	}
}

func TestFirstNodeIsAnActiveManager(t *testing.T) {
	cluster, _ := NewCluster(Founding{}, time.Now())
	node, certPEM, err := FirstNode(cluster, request(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := pki.Identity{NodeID: node.ID, Role: pki.RoleManager, ClusterID: cluster.ID}
	if identityIn(t, certPEM) != want || node.Spec.Role != swarm.NodeRoleManager || node.Spec.Availability != swarm.NodeAvailabilityActive {
		t.Errorf("node %+v, certificate of %v", node, identityIn(t, certPEM))
	}
	bad := request(t)
	bad.Hostname = ""
	if _, _, err := FirstNode(cluster, bad, time.Now()); !errdefs.IsInvalidArgument(err) {
		t.Errorf("err %v", err)
	}
}

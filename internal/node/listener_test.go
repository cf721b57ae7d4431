package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"shoal/internal/pki"
)

// hall is a node's listener with its doors, and the cluster around it.
type hall struct {
	t     *testing.T
	root  *pki.Root
	doors *doors
}

func newHall(t *testing.T) *hall {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	root, err := pki.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{t: t, root: root}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{}
	h.doors = newDoors(listener, pki.ServerTLS(pki.Server{
		Credential: h.credential("here", pki.RoleManager), Protocols: []string{protocolRaft, protocolRPC, protocolJoin, protocolHTTP},
		Anonymous: []string{protocolJoin}, Allow: m.allow,
	}), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.doors.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

func (h *hall) credential(node string, role pki.Role) *pki.Credential {
	h.t.Helper()
	keyPEM, csrPEM, err := pki.NewKeyAndCSR()
	if err != nil {
		h.t.Fatal(err)
	}
	certPEM, err := h.root.Sign(csrPEM, pki.Identity{NodeID: node, Role: role, ClusterID: "c1"}, time.Hour, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := pki.NewCredential("", keyPEM, certPEM, h.root.CertPEM)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// greet serves one connection at a door: it sends the name of the door.
func (h *hall) greet(protocol string) {
	l := h.doors.door(protocol)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, protocol) // the test sees what is missing
	}()
}

// dial returns what a peer reads that asks for a protocol, or how it fails.
func (h *hall) dial(c *tls.Config) (string, error) {
	conn, err := tls.Dial("tcp", h.doors.listener.Addr().String(), c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	return string(text), err
}

func TestConnectionsComeToTheDoorOfTheirProtocol(t *testing.T) {
	h := newHall(t)
	for _, protocol := range []string{protocolRaft, protocolRPC, protocolJoin, protocolHTTP} {
		h.greet(protocol)
		got, err := h.dial(pki.ClientTLS(pki.Client{Credential: h.credential("m1", pki.RoleManager), Protocols: []string{protocol}}))
		if err != nil || got != protocol {
			t.Errorf("%s: read %q, %v", protocol, got, err)
		}
	}
	h.greet(protocolHTTP)
	got, err := h.dial(pki.ClientTLS(pki.Client{Credential: h.credential("alice", pki.RoleClient)}))
	if err != nil || got != protocolHTTP {
		t.Errorf("no protocol: read %q, %v", got, err)
	}
}

func TestDoorsByRole(t *testing.T) {
	h := newHall(t)
	for _, c := range []struct {
		protocol string
		role     pki.Role
		open     bool
	}{
		{protocolRaft, pki.RoleManager, true},
		{protocolRaft, pki.RoleWorker, false},
		{protocolRaft, pki.RoleClient, false},
		{protocolRPC, pki.RoleManager, true},
		{protocolRPC, pki.RoleWorker, true},
		{protocolRPC, pki.RoleClient, false},
		{protocolHTTP, pki.RoleManager, true},
		{protocolHTTP, pki.RoleWorker, false},
		{protocolHTTP, pki.RoleClient, true},
	} {
		h.greet(c.protocol)
		got, err := h.dial(pki.ClientTLS(pki.Client{Credential: h.credential("x", c.role), Protocols: []string{c.protocol}}))
		if open := err == nil && got == c.protocol; open != c.open {
			t.Errorf("%s as %s: read %q, %v; open should be %v", c.protocol, c.role, got, err, c.open)
		}
	}
}

func TestOnlyTheJoinDoorIsOpenWithoutACertificate(t *testing.T) {
	h := newHall(t)
	for _, protocol := range []string{protocolRaft, protocolRPC, protocolHTTP, protocolJoin} {
		h.greet(protocol)
		got, err := h.dial(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) //nolint:gosec // a stranger's view
		if open := err == nil && got == protocol; open != (protocol == protocolJoin) {
			t.Errorf("%s: read %q, %v", protocol, got, err)
		}
	}
}

func TestConnectionsOfAnotherClusterAreRefused(t *testing.T) {
	h, other := newHall(t), newHall(t)
	h.greet(protocolRPC)
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocolRPC}, GetClientCertificate: other.credential("m1", pki.RoleManager).GetClientCertificate} //nolint:gosec // an attacker's
	if got, err := h.dial(c); err == nil && got != "" {
		t.Errorf("read %q", got)
	}
}

func TestTenantsOfADoorComeAndGo(t *testing.T) {
	d := &door{conns: make(chan net.Conn), closed: make(chan struct{})}
	first := share(d)
	first.Close()
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a tenant that has left still accepts: %v", err)
	}
	second, ours := share(d), make(chan net.Conn, 1)
	near, far := net.Pipe()
	defer far.Close()
	go d.deliver(t.Context(), near)
	go func() {
		conn, _ := second.Accept()
		ours <- conn
	}()
	if got := <-ours; got != near {
		t.Errorf("the next tenant got %v", got)
	}
}

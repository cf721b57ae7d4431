package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shoal/internal/pki"
	"shoal/manager/relay"
)

// TestEngineDoorByIdentity is this call's row of the matrix of RPCs and
// identities: workers answer it too, and only managers may ask.
func TestEngineDoorByIdentity(t *testing.T) {
	h := newHall(t)
	n := testNode(t)
	n.engine = newEngineProxy(n.cfg)
	m := newMember(n, &record{NodeID: "w1"}, nil)
	call := func(peer *pki.Credential) int {
		w := httptest.NewRecorder()
		m.engineDoor().ServeHTTP(w, requestAs(t, peer, http.MethodGet, relay.Path+"/images/json", nil))
		if role := "may not call " + relay.Path; w.Code == http.StatusForbidden && strings.Contains(w.Body.String(), role) {
			return http.StatusUnauthorized
		}
		return w.Code
	}
	// Who may ask is told that this is not a call to ask for.
	for role, want := range map[pki.Role]int{pki.RoleManager: http.StatusForbidden, pki.RoleWorker: http.StatusUnauthorized, pki.RoleClient: http.StatusUnauthorized} {
		if got := call(h.credential("x", role)); got != want {
			t.Errorf("as %s: %d, want %d", role, got, want)
		}
	}
	if got := call(nil); got != http.StatusUnauthorized {
		t.Errorf("without a certificate: %d", got)
	}
}

func TestOwnsContainersOfThisCluster(t *testing.T) {
	m := newMember(testNode(t), &record{NodeID: "w1", ClusterID: "c1"}, nil)
	for want, all := range map[bool][]map[string]string{
		true:  {{"shoal.task.id": "t", "shoal.cluster.id": "c1"}, {labelAttachment: "a1"}},
		false: {{}, {"shoal.task.id": "t"}, {"shoal.task.id": "t", "shoal.cluster.id": "c2"}, {"com.docker.swarm.task.id": "t"}, {"shoal.cluster.id": "c1"}},
	} {
		for _, labels := range all {
			if m.owns(labels) != want {
				t.Errorf("%v: want %v", labels, want)
			}
		}
	}
}

func TestDialInside(t *testing.T) {
	runtime.LockOSThread() // the main thread may be in a network of its own by now
	defer runtime.UnlockOSThread()
	self := unix.Gettid()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			fmt.Fprintln(conn, "hello")
			conn.Close()
		}
	}()
	port := uint16(l.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
	conn, err := dialInside(context.Background(), self, port)
	if errors.Is(err, unix.EPERM) {
		t.Skip("only root may enter networks")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	l.Close()
	if conn, err := dialInside(context.Background(), self, port); err == nil {
		conn.Close()
		t.Error("a port that nobody listens on answers")
	}
	if _, err := dialInside(context.Background(), 1<<30, port); err == nil || !strings.Contains(err.Error(), "has just ended") {
		t.Errorf("a process that is not there: %v", err)
	}
}

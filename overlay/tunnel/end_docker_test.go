//go:build docker

package tunnel

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// These tests run in network namespaces of their own: the test program starts
// itself again in one, and once more for the other end of the tunnel.
const (
	envInside = "SHOAL_TEST_TUNNEL_INSIDE"
	envFar    = "SHOAL_TEST_TUNNEL_FAR"
)

// TestFarEnd is no test but the process at the far end.
func TestFarEnd(t *testing.T) {
	if os.Getenv(envFar) == "" {
		t.Skip("only for the other tests here")
	}
	must(t, runFar(os.Stdin, os.Stdout))
}

// inside reports whether this process is in a namespace that it may change; if
// not, it runs the test again in one that is.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envInside) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a namespace of its own: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

// command is what the test asks of the far end.
type command struct {
	Apply *Want  `json:"apply"`
	Serve string `json:"serve"` // TCP echo at this address
}

// runFar is the far end: a Tunnel that does what it is told.
func runFar(in io.Reader, out io.Writer) error {
	tunnel := New(nil)
	defer tunnel.Close()
	answers := json.NewEncoder(out)
	for commands := json.NewDecoder(in); ; {
		var c command
		if err := commands.Decode(any(&c)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		text := ""
		if c.Apply != nil {
			if err := tunnel.Apply(c.Apply); err != nil {
				text = err.Error()
			}
		}
		if c.Serve != "" {
			if err := echo(c.Serve); err != nil {
				text = err.Error()
			}
		}
		if err := answers.Encode(text); err != nil {
			return err
		}
	}
}

func echo(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return nil
}

// far is the process at the other end.
type far struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

// startFar starts it in a new namespace, or in that of holder.
func startFar(t *testing.T, holder int) *far {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFarEnd$")
	cmd.Env = append(os.Environ(), envFar+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if holder == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		err = cmd.Start()
	} else {
		err = startIn(cmd, holder)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &far{t, cmd, in, json.NewDecoder(bufio.NewReader(out))}
	t.Cleanup(f.stop)
	return f
}

// startIn starts cmd in the network namespace of a process: a new process is in
// that of the thread that forks.
func startIn(cmd *exec.Cmd, pid int) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}

func (f *far) do(c command) {
	f.t.Helper()
	var text string
	if err := errors.Join(json.NewEncoder(f.in).Encode(any(c)), f.answers.Decode(&text)); err != nil || text != "" {
		f.t.Fatalf("far end: %v %s", err, text)
	}
}

func (f *far) stop() {
	f.in.Close()
	f.cmd.Wait()
}

// kill ends it without a farewell.
func (f *far) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

var (
	nearAddr, farAddr   = netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("10.99.0.2/24") // inside
	nearUnder, farUnder = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")
)

func wantNear(psk []byte) *Want { return wantOf(key(1), key(2), psk, farUnder, farAddr) }
func wantFar(psk []byte) *Want  { return wantOf(key(2), key(1), psk, nearUnder, nearAddr) }

func wantOf(private, other, psk []byte, under, addr netip.Prefix) *Want {
	public, err := PublicKey(other)
	if err != nil {
		panic(err)
	}
	return &Want{Link: "shoalwg", PrivateKey: private, Port: 7947, MTU: 1400, Peers: []Peer{{
		PublicKey: public, Preshared: psk, Endpoint: netip.AddrPortFrom(under.Addr(), 7947), Allowed: []netip.Prefix{netip.PrefixFrom(addr.Addr(), 32)},
	}}}
}

// wire joins both namespaces and brings the tunnel up between them. holder is a
// process that keeps the far namespace.
func wire(t *testing.T, psk []byte) (near *Tunnel, there, holder *far) {
	t.Helper()
	holder = startFar(t, 0)
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "under"}, PeerName: "under", PeerNamespace: netlink.NsPid(holder.cmd.Process.Pid)}))
	address(t, 0, "under", nearUnder)
	address(t, holder.cmd.Process.Pid, "under", farUnder)
	for _, pid := range []int{0, holder.cmd.Process.Pid} {
		awaitCarrier(t, pid, "under")
	}
	there = startFar(t, holder.cmd.Process.Pid)
	there.do(command{Apply: wantFar(psk)})
	address(t, holder.cmd.Process.Pid, "shoalwg", farAddr)
	there.do(command{Serve: farAddr.Addr().String() + ":7"})
	near = New(nil)
	t.Cleanup(func() { near.Close() })
	must(t, near.Apply(wantNear(psk)))
	address(t, 0, "shoalwg", nearAddr)
	return near, there, holder
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// address gives a link an address and sets it up; pid names the namespace.
func address(t *testing.T, pid int, link string, prefix netip.Prefix) {
	t.Helper()
	h := handle(t, pid)
	defer h.Close()
	l, err := h.LinkByName(link)
	must(t, err)
	addr, err := netlink.ParseAddr(prefix.String())
	must(t, err)
	must(t, h.AddrReplace(l, addr))
	must(t, h.LinkSetUp(l))
}

// awaitCarrier returns when a link carries packets: the kernel drops those that
// come before.
func awaitCarrier(t *testing.T, pid int, link string) {
	t.Helper()
	h := handle(t, pid)
	defer h.Close()
	for tick := time.Tick(time.Millisecond); ; <-tick {
		l, err := h.LinkByName(link)
		must(t, err)
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("%s is %s", link, l.Attrs().OperState)
		}
	}
}

func handle(t *testing.T, pid int) *netlink.Handle {
	t.Helper()
	if pid == 0 {
		h, err := netlink.NewHandle()
		must(t, err)
		return h
	}
	made := make(chan *netlink.Handle, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			made <- nil
			return
		}
		h, _ := netlink.NewHandle()
		made <- h
	}()
	h := <-made
	if h == nil {
		t.Fatal("no netlink handle in the far namespace")
	}
	return h
}

func dial(t *testing.T, within time.Duration) (net.Conn, error) {
	t.Helper()
	return net.DialTimeout("tcp", farAddr.Addr().String()+":7", within)
}

// talk sends through c and waits for it to come back.
func talk(c net.Conn, within time.Duration) error {
	text := []byte(strings.Repeat("x", 3000))
	c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write(text); err != nil {
		return err
	}
	_, err := io.ReadFull(c, text)
	return err
}

// connected waits as long as the protocol does: both ends begin at once here,
// and when their first messages cross, each tries again after 5 s.
func connected(t *testing.T) net.Conn {
	t.Helper()
	c, err := dial(t, 30*time.Second)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, talk(c, 30*time.Second))
	return c
}

func TestTrafficPassesAndNothingDiffers(t *testing.T) {
	if !inside(t) {
		return
	}
	near, _, _ := wire(t, key(7))
	connected(t)
	if differed, err := near.Audit(); err != nil || differed != nil {
		t.Errorf("audit of a good tunnel: %q, %v", differed, err)
	}
	l, err := netlink.LinkByName("shoalwg")
	must(t, err)
	if l.Attrs().MTU != 1400 {
		t.Errorf("MTU %d", l.Attrs().MTU)
	}
}

func TestAnotherPresharedKeyDoesNotPass(t *testing.T) {
	if !inside(t) {
		return
	}
	near, _, _ := wire(t, key(7))
	must(t, near.Apply(nil))
	must(t, near.Apply(wantNear(key(8))))
	address(t, 0, "shoalwg", nearAddr)
	if c, err := dial(t, 3*time.Second); err == nil {
		c.Close()
		t.Error("a connection came about without the right preshared key")
	}
	must(t, near.Apply(wantNear(key(7))))
	if c, err := dial(t, 20*time.Second); err != nil {
		t.Errorf("with the right one: %v", err)
	} else {
		c.Close()
	}
}

func TestRotationLosesNoConnection(t *testing.T) {
	if !inside(t) {
		return
	}
	near, there, _ := wire(t, key(7))
	c := connected(t)
	// One end has the next key and the other has not: the session goes on.
	must(t, near.Apply(wantNear(key(8))))
	must(t, talk(c, time.Second))
	there.do(command{Apply: wantFar(key(8))})
	must(t, talk(c, time.Second))
	// A new session can only be made with the next key.
	must(t, near.Close())
	must(t, near.Apply(wantNear(key(8))))
	must(t, talk(c, 10*time.Second))
}

func TestRestartOfOneEndResumes(t *testing.T) {
	if !inside(t) {
		return
	}
	near, _, _ := wire(t, key(7))
	c := connected(t)
	before, err := netlink.LinkByName("shoalwg")
	must(t, err)
	must(t, near.Close())
	after, err := netlink.LinkByName("shoalwg")
	must(t, err)
	addrs, err := netlink.AddrList(after, netlink.FAMILY_V4)
	must(t, err)
	routes, err := netlink.RouteList(after, netlink.FAMILY_V4)
	must(t, err)
	if before.Attrs().Index != after.Attrs().Index || len(addrs) != 1 || len(routes) != 1 {
		t.Errorf("after the end of the process: link %d, was %d, addresses %v, routes %v", after.Attrs().Index, before.Attrs().Index, addrs, routes)
	}
	near = New(nil)
	t.Cleanup(func() { near.Close() })
	began := time.Now()
	must(t, near.Apply(wantNear(key(7))))
	must(t, talk(c, 10*time.Second))
	t.Logf("resumed after %s", time.Since(began))
}

// The one that does not speak first must not wait for the other's timer.
func TestKilledFarEndResumes(t *testing.T) {
	if !inside(t) {
		return
	}
	_, there, holder := wire(t, key(7))
	connected(t)
	there.kill()
	again := startFar(t, holder.cmd.Process.Pid)
	began := time.Now()
	again.do(command{Apply: wantFar(key(7))})
	again.do(command{Serve: farAddr.Addr().String() + ":7"})
	connected(t)
	took := time.Since(began)
	t.Logf("traffic passes %s after the restart", took)
	if took > 14*time.Second { // the other's timer is of 15 s
		t.Error("the end that was not restarted spoke first")
	}
}

func TestAuditRepairsTheDevice(t *testing.T) {
	if !inside(t) {
		return
	}
	near, _, _ := wire(t, key(7))
	damage := map[string]func(netlink.Link) error{
		"deleted": netlink.LinkDel,
		"down":    netlink.LinkSetDown,
		"MTU":     func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) },
		"peers":   func(netlink.Link) error { return near.end.device.IpcSet("replace_peers=true\n") },
	}
	for name, hurt := range damage {
		l, err := netlink.LinkByName("shoalwg")
		must(t, err)
		must(t, hurt(l))
		if differed, err := near.Audit(); err != nil || len(differed) == 0 {
			t.Errorf("%s: %q, %v", name, differed, err)
		} else {
			t.Logf("%s: %q", name, differed)
		}
		address(t, 0, "shoalwg", nearAddr)
		connected(t)
		if differed, err := near.Audit(); err != nil || differed != nil {
			t.Errorf("%s, after the repair: %q, %v", name, differed, err)
		}
	}
}

func TestDownRemovesTheDevice(t *testing.T) {
	if !inside(t) {
		return
	}
	tunnel := New(nil)
	must(t, tunnel.Apply(wantNear(key(7))))
	must(t, tunnel.Apply(nil))
	must(t, tunnel.Apply(nil))
	if _, err := netlink.LinkByName("shoalwg"); err == nil {
		t.Error("the device is still there")
	}
	// A link of another kind in its place.
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "shoalwg"}}))
	must(t, tunnel.Apply(wantNear(key(7))))
	must(t, tunnel.Close())
	must(t, Purge("shoalwg"))
	must(t, Purge("shoalwg"))
	// A port that someone has.
	l, err := net.ListenPacket("udp", ":7947")
	must(t, err)
	if err := tunnel.Apply(wantNear(key(7))); err == nil {
		t.Error("a taken port is no error")
	}
	must(t, l.Close())
	if _, err := tunnel.Audit(); err != nil {
		t.Errorf("once the port is free: %v", err)
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"shoal/manager/relay"
	"shoal/worker/executor"
)

// engineDoor lets managers call this node's engine, for containers of the
// cluster. Workers have it too, and only managers may use it.
func (m *member) engineDoor() http.Handler {
	door := &relay.Door{
		Engine: m.node.engine.transport, Version: m.node.engine.apiVersion, Owns: m.owns, Dial: dialInside, Log: m.log,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, err := m.mayAsk(r, relay.Path); err != nil {
			writeError(w, status, err)
			return
		}
		door.ServeHTTP(w, r)
	})
}

// owns reports whether a container with these labels is of the cluster: of one
// of its tasks, or on one of its networks since it was made.
func (m *member) owns(labels map[string]string) bool {
	if labels[executor.TaskLabel] != "" {
		return labels[executor.ClusterLabel] == m.record.Load().ClusterID
	}
	return labels[labelAttachment] != ""
}

// dialInside connects to a port as a process does that asks for localhost, or
// for its own address: what listens only inside is reached too.
func dialInside(ctx context.Context, pid int, port uint16) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A thread that cannot come back is not given back: it ends with this
		// goroutine, which stays locked to it.
		runtime.LockOSThread()
		var back func() error
		if back, err = enter(pid); err != nil {
			return
		}
		conn, err = dialAny(ctx, port)
		if back() == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	return conn, err
}

// enter moves the calling thread into the network of a process.
func enter(pid int) (back func() error, err error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	other, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("its container has just ended: %w", err)
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		own.Close()
		return nil, fmt.Errorf("enter its network: %w", err)
	}
	return func() error {
		defer own.Close()
		return unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)
	}, nil
}

// dialAny tries localhost, then the addresses that are there. The calling thread
// decides in which network, so nothing here may be done by another one: each
// address is a literal, tried by itself.
func dialAny(ctx context.Context, port uint16) (net.Conn, error) {
	hosts := []string{"127.0.0.1", "::1"}
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && ip.IsGlobalUnicast() {
			hosts = append(hosts, ip.String())
		}
	}
	for _, host := range hosts {
		conn, failed := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if failed == nil {
			return conn, nil
		}
		err = errors.Join(err, failed)
	}
	return nil, err
}

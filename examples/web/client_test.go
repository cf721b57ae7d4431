package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// command runs the program and gives its output, and its code if not 0.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 {
		return fmt.Sprintf("%d: %s", code, stderr.String())
	}
	return stdout.String()
}

func TestLookup(t *testing.T) {
	if got := command(t, "lookup", "192.0.2.7"); got != "192.0.2.7\n" {
		t.Errorf("an address: %q", got)
	}
	if got := command(t, "lookup", "localhost", "a"); got != "127.0.0.1\n" {
		t.Errorf("localhost: %q", got)
	}
	for _, args := range [][]string{{}, {"localhost", "MX"}, {"localhost", "A", "B"}, {"192.0.2.7", "AAAA"}, {"nonsense", "PTR"}} {
		if got := command(t, append([]string{"lookup"}, args...)...); !strings.HasPrefix(got, "1: lookup: ") {
			t.Errorf("lookup %q: %q", args, got)
		}
	}
}

func TestGetTakesAConnectionForEach(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(handler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	if got := command(t, "get", server.URL, "3"); strings.Count(got, "hello from ") != 3 || connections.Load() != 3 {
		t.Errorf("%q over %d connections; want 3 over 3", got, connections.Load())
	}
	for _, args := range [][]string{{}, {server.URL, "none"}, {server.URL, "0"}, {server.URL + "/nothing"}, {"http://127.0.0.1:1/"}} {
		if got := command(t, append([]string{"get"}, args...)...); !strings.HasPrefix(got, "1: get: ") {
			t.Errorf("get %q: %q", args, got)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestServeEchoes(t *testing.T) {
	udp, tcp := freeAddr(t), freeAddr(t)
	t.Setenv("ADDR", "127.0.0.1:0")
	t.Setenv("UDP_ADDR", udp)
	t.Setenv("ECHO_ADDR", tcp)
	stop, err := startEchoes()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
		conn, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		answers := bufio.NewReader(conn)
		for _, text := range []string{"one\n", "two\n"} {
			io.WriteString(conn, text)
			got, err := answers.ReadString('\n')
			if want := fmt.Sprintf(" to %s: %s", conn.LocalAddr(), text); err != nil || !strings.HasSuffix(got, want) {
				t.Errorf("%s: %q, %v; want …%q", network, got, err, want)
			}
		}
	}
	if _, err := startEchoes(); err == nil {
		t.Error("two echoes on one port")
	}
}

func TestServeEndsWithOpenEchoes(t *testing.T) {
	tcp := freeAddr(t)
	t.Setenv("ADDR", "127.0.0.1:0")
	t.Setenv("ECHO_ADDR", tcp)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	var conn net.Conn
	for conn == nil { // until serve listens, or has failed
		select {
		case err := <-done:
			t.Fatal(err)
		default:
			conn, _ = net.Dial("tcp", tcp)
		}
	}
	defer conn.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

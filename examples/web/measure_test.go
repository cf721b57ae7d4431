package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echoes starts two echoes and a sink, and returns where.
func echoes(t *testing.T) (echo, other, sink string) {
	t.Helper()
	echo, other, sink = freeAddr(t), freeAddr(t), freeAddr(t)
	t.Setenv("ECHO_ADDR", echo+" "+other)
	t.Setenv("SINK_ADDR", sink)
	stop, err := startEchoes()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return echo, other, sink
}

func TestSendTellsWhatArrived(t *testing.T) {
	_, _, sink := echoes(t)
	var rate float64
	out := command(t, "send", sink, "0.05")
	if _, err := fmt.Sscan(out, &rate); err != nil || rate < 1<<20 {
		t.Errorf("%q: want at least 1 MiB a second", out)
	}
	for _, args := range [][]string{{}, {sink}, {sink, "long"}, {sink, "0"}, {"127.0.0.1:1", "1"}} {
		if got := command(t, append([]string{"send"}, args...)...); !strings.HasPrefix(got, "1: send: ") {
			t.Errorf("send %q: %q", args, got)
		}
	}
}

func TestKnockCountsAnswersAndFailures(t *testing.T) {
	echo, other, _ := echoes(t)
	var ok, failed, slow int
	for _, addr := range []string{echo, other} {
		out := command(t, "knock", addr, "0.05")
		if _, err := fmt.Sscanf(out, "ok %d failed %d slow %d", &ok, &failed, &slow); err != nil || ok == 0 || failed > 0 {
			t.Errorf("knock at an echo: %q, %v", out, err)
		}
	}
	out := command(t, "knock", "127.0.0.1:1", "0.01")
	if _, err := fmt.Sscanf(out, "ok %d failed %d slow %d", &ok, &failed, &slow); err != nil || ok > 0 || failed == 0 || !strings.Contains(out, "first failure: connect: connection refused") {
		t.Errorf("knock where nobody is: %q, %v", out, err)
	}
	for _, args := range [][]string{{}, {"localhost:80", "1"}, {"[::1]:80", "1"}, {"127.0.0.1:1", "-1"}} {
		if got := command(t, append([]string{"knock"}, args...)...); !strings.HasPrefix(got, "1: knock: ") {
			t.Errorf("knock %q: %q", args, got)
		}
	}
}

func TestInterruptedCallsAreMadeAgain(t *testing.T) {
	for _, c := range []struct {
		answers []error
		want    error
	}{
		{[]error{nil}, nil},
		{[]error{syscall.EINTR, nil}, nil},
		{[]error{syscall.EINTR, syscall.EISCONN}, nil},
		{[]error{syscall.EISCONN}, syscall.EISCONN},
		{[]error{syscall.EINTR, syscall.ECONNREFUSED}, syscall.ECONNREFUSED},
	} {
		n := 0
		err := again(func() error { n++; return c.answers[n-1] })
		if !errors.Is(err, c.want) || n != len(c.answers) {
			t.Errorf("%v: %v after %d calls, want %v", c.answers, err, n, c.want)
		}
	}
}

// TestAnswerMayComeInPieces has a server that sends its line in two.
func TestAnswerMayComeInPieces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "host to ")
		fmt.Fprint(conn, "client: knock\n")
		conn.Read(make([]byte, 100))
	}()
	a := l.Addr().(*net.TCPAddr)
	if err := knockOnce(&syscall.SockaddrInet4{Addr: [4]byte(a.IP.To4()), Port: a.Port}); err != nil {
		t.Error(err)
	}
}

// lines is a writer that hands on each of what is written.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func TestWatchTellsWhoIsNew(t *testing.T) {
	echo, _, _ := echoes(t)
	for kind, of := range map[string]string{"echo": echo, "name": "localhost"} {
		ctx, cancel := context.WithCancel(t.Context())
		out, done := make(lines, 10), make(chan error, 1)
		before := time.Now().UnixNano()
		go func() { done <- watch(ctx, out, []string{kind, of}) }()
		var who string
		var at int64
		line := <-out
		if _, err := fmt.Sscan(line, &who, &at); err != nil || at < before || at > time.Now().UnixNano() {
			t.Errorf("watch %s: %q, %v", kind, line, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, args := range [][]string{{}, {"name"}, {"face", "x"}} {
		if err := watch(t.Context(), &bytes.Buffer{}, args); err == nil {
			t.Errorf("watch %q succeeded", args)
		}
	}
	if got := echoer(t.Context(), "127.0.0.1:1"); got != nil {
		t.Errorf("nobody's answer: %q", got)
	}
	if got := keepOnly(map[string]bool{"a": true, "b": true}, []string{"b", "c"}); len(got) != 1 || !got["b"] {
		t.Errorf("kept %v", got)
	}
}

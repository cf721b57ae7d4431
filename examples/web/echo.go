package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
)

// startEchoes starts what UDP_ADDR, ECHO_ADDR and SINK_ADDR ask for, and returns
// what ends it, with all connections, and waits.
func startEchoes() (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	stop = func() {
		cancel()
		g.Wait()
	}
	if addr := os.Getenv("UDP_ADDR"); addr != "" {
		conn, err := net.ListenPacket("udp", addr)
		if err != nil {
			stop()
			return nil, err
		}
		context.AfterFunc(ctx, func() { io.Closer(conn).Close() })
		g.Go(func() { echoPackets(conn) })
	}
	for env, answer := range map[string]func(context.Context, net.Conn){"ECHO_ADDR": echoLines, "SINK_ADDR": swallow} {
		for addr := range strings.FieldsSeq(os.Getenv(env)) {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				stop()
				return nil, err
			}
			context.AfterFunc(ctx, func() { l.Close() })
			g.Go(func() { acceptStreams(ctx, &g, l, answer) })
		}
	}
	return stop, nil
}

// echoed is a line or datagram as it goes back: who answers, to whom, what.
func echoed(client net.Addr, text string) string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s to %s: %s", host, client, text)
}

func echoPackets(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // one that cannot be answered is lost, as datagrams are
			_, _ = conn.WriteTo([]byte(echoed(from, string(buf[:n]))), from)
		}
	}
}

func acceptStreams(ctx context.Context, g *sync.WaitGroup, l net.Listener, answer func(context.Context, net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		g.Go(func() { answer(ctx, conn) })
	}
}

// echoLines answers each line for as long as the client keeps the connection,
// however long it says nothing.
func echoLines(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if _, err := fmt.Fprintln(conn, echoed(conn.RemoteAddr(), lines.Text())); err != nil {
			return
		}
	}
}

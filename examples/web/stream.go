package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// chunk is how much is read or written at once: enough that a stream is what
// the network can carry, not what system calls cost.
const chunk = 256 << 10

// swallow reads until the client has no more to say, and tells how many bytes
// that were.
func swallow(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, chunk)
	total := 0
	for {
		n, err := conn.Read(buf)
		total += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	_, _ = fmt.Fprintln(conn, total) // a client that is gone does not ask
}

// send streams to a sink for some seconds and prints how many bytes a second
// have arrived there.
func send(ctx context.Context, w io.Writer, args []string) error {
	addr, d, err := addrAndTime(args)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	start := time.Now()
	for buf := make([]byte, chunk); time.Since(start) < d; {
		if _, err := conn.Write(buf); err != nil {
			return err
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var arrived int64
	if _, err := fmt.Fscan(conn, &arrived); err != nil {
		return fmt.Errorf("answer of the sink: %w", err)
	}
	_, err = fmt.Fprintf(w, "%.0f\n", float64(arrived)/time.Since(start).Seconds())
	return err
}

// addrAndTime reads ADDR SECONDS.
func addrAndTime(args []string) (addr string, d time.Duration, err error) {
	if len(args) != 2 {
		return "", 0, errors.New("want ADDR SECONDS")
	}
	seconds, err := strconv.ParseFloat(args[1], 64)
	if err != nil || seconds <= 0 {
		return "", 0, fmt.Errorf("seconds %q: want a number above 0", args[1])
	}
	return args[0], time.Duration(seconds * float64(time.Second)), nil
}

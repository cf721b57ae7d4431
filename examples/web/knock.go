package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"time"
)

// slow is what only a lost packet takes: TCP repeats a SYN after a second.
const slow = 900 * time.Millisecond

// knocks is what became of many short connections.
type knocks struct {
	ok, failed, slow int
	first            error // of those that failed
}

// knock opens connections to an echo for some seconds, one after the other:
// each sends a line, reads the answer and is closed from this side. It prints
// how many were answered, failed and were slow, and how many seconds it took.
//
// It makes blocking system calls, five and two options for each connection: a
// client that costs less shows more of what the way to the server costs.
func knock(ctx context.Context, w io.Writer, args []string) error {
	text, d, err := addrAndTime(args)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || !addr.Addr().Is4() {
		return fmt.Errorf("address %q: want one of IPv4, with a port", text)
	}
	var k knocks
	start := time.Now()
	at := start
	for at.Sub(start) < d && ctx.Err() == nil {
		err := knockOnce(&syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
		now := time.Now()
		k.add(err, now.Sub(at))
		at = now
	}
	if _, err := fmt.Fprintf(w, "ok %d failed %d slow %d seconds %.3f\n", k.ok, k.failed, k.slow, at.Sub(start).Seconds()); err != nil {
		return err
	}
	if k.first != nil {
		_, err = fmt.Fprintf(w, "first failure: %v\n", k.first)
	}
	return err
}

func (k *knocks) add(err error, took time.Duration) {
	if took > slow {
		k.slow++
	}
	if err == nil {
		k.ok++
		return
	}
	if k.failed++; k.first == nil {
		k.first = err
	}
}

// knockOnce is one connection.
func knockOnce(to syscall.Sockaddr) (err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if closed := syscall.Close(fd); err == nil {
			err = closed
		}
	}()
	limit := syscall.NsecToTimeval(patience.Nanoseconds())
	for _, option := range []int{syscall.SO_SNDTIMEO, syscall.SO_RCVTIMEO} { // the first holds for connect too
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &limit); err != nil {
			return fmt.Errorf("limit: %w", err)
		}
	}
	if err := again(func() error { return syscall.Connect(fd, to) }); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := again(func() error { _, err := syscall.Write(fd, []byte("knock\n")); return err }); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return answered(fd)
}

// answered reads up to the end of a line.
func answered(fd int) error {
	var buf [256]byte
	for {
		n := 0
		err := again(func() (err error) { n, err = syscall.Read(fd, buf[:]); return err })
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return errors.New("closed without an answer")
		}
		if buf[n-1] == '\n' {
			return nil
		}
	}
}

// again repeats a call that a signal has interrupted, as Go's scheduler sends
// them. A connect goes on meanwhile, and then is done already.
func again(call func() error) error {
	err := call()
	for repeated := false; err != nil; repeated = true {
		switch {
		case errors.Is(err, syscall.EISCONN) && repeated:
			return nil
		case !errors.Is(err, syscall.EINTR):
			return err
		}
		err = call()
	}
	return nil
}

package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/docker/docker/client"
)

func (s *shell) portForwardCommand() *command {
	address := "127.0.0.1"
	f := &flags{}
	f.text(&address, "address", "IP address to listen on").def(address)
	return &command{
		name: "port-forward", operands: "[OPTIONS] TASK|CONTAINER LOCAL[:REMOTE] [LOCAL[:REMOTE]...]", short: "Reach ports of a task's container on this machine",
		long: "Connections to the local port go to the remote one, inside of the container, wherever it runs and whatever it publishes; LOCAL 0 takes a free one.\n" +
			"A task is named by its name, its ID, or its slot: web.1. It goes on until Ctrl-C.",
		flags: f, min: 2, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			if net.ParseIP(address) == nil {
				return badFlag("address", address, "must be an IP address")
			}
			pairs, err := portPairs(args[1:])
			if err != nil {
				return err
			}
			return s.portForward(ctx, args[0], address, pairs)
		},
	}
}

// portPair is a port here and one in the container.
type portPair struct{ local, remote uint16 }

func portPairs(args []string) (pairs []portPair, err error) {
	for _, arg := range args {
		local, remote, found := strings.Cut(arg, ":")
		if !found {
			remote = local
		}
		l, err := strconv.ParseUint(local, 10, 16)
		r, second := strconv.ParseUint(remote, 10, 16)
		if err != nil || second != nil || r == 0 {
			return nil, fmt.Errorf("invalid ports %q: want LOCAL[:REMOTE], each 1 to 65535, LOCAL may be 0", arg)
		}
		pairs = append(pairs, portPair{uint16(l), uint16(r)})
	}
	return pairs, nil
}

func (s *shell) portForward(ctx context.Context, ref, address string, pairs []portPair) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if _, err := api.ContainerInspect(ctx, ref); err != nil { // says what is wrong before anyone connects
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range pairs {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(p.local))))
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "Forwarding from %s to port %d of %s\n", listener.Addr(), p.remote, ref)
		stop := context.AfterFunc(ctx, func() { listener.Close() })
		defer stop()
		all.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil { // closed above
					return
				}
				all.Go(func() {
					if err := forwardOne(ctx, api, conn, ref, p.remote); err != nil && ctx.Err() == nil {
						fmt.Fprintf(s.err, "port %d of %s: %v\n", p.remote, ref, err)
					}
				})
			}
		})
	}
	<-ctx.Done()
	return ctx.Err()
}

// forwardOne joins a connection with one to the container's port.
func forwardOne(ctx context.Context, api *client.Client, conn net.Conn, ref string, port uint16) error {
	defer conn.Close()
	far, in, err := dialForward(ctx, api, ref, port)
	if err != nil {
		return err
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); far.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(far, conn) // either end may go first
		closeWrite(far)
	}()
	_, err = io.Copy(conn, in)
	closeWrite(conn)
	if err != nil {
		far.Close()
	}
	<-sent
	return nil
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // what is closed already needs no end
	}
}

func dialForward(ctx context.Context, api *client.Client, ref string, port uint16) (net.Conn, io.Reader, error) {
	conn, err := api.Dialer()(ctx)
	if err != nil {
		return nil, nil, err
	}
	path := "/shoal/v1/forward/" + url.PathEscape(ref) + "?port=" + strconv.Itoa(int(port))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shoal"+path, http.NoBody)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "tcp")
	in := bufio.NewReader(conn)
	if err = r.Write(conn); err == nil {
		var answer *http.Response
		if answer, err = http.ReadResponse(in, r); err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // the status says enough
			err = daemonError(answer.StatusCode, text)
		}
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, in, nil
}

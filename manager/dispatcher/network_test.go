package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// network is connections in memory between nodes that can be cut. What was
// open during a cut stays dead, which is the worst that TCP may do.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	cut       map[string]bool
	links     []*link
	ports     int
}

func (n *network) isCut(node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[node]
}

func (n *network) setCut(node string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[node] = cut
	for _, l := range n.links {
		if cut && (l.from == node || l.to == node) {
			l.dead.Store(true)
		}
	}
}

func (n *network) listen(node string) *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{accept: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[node] = l
	return l
}

func (n *network) remove(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, node)
}

func (n *network) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	to, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	l, cut := n.listeners[to], n.cut[from] || n.cut[to]
	n.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errors.New("connection refused")
	}
	near, a := net.Pipe()
	b, far := net.Pipe()
	n.mu.Lock()
	n.ports++
	k := &link{from: from, to: to}
	n.links = append(n.links, k)
	remote := named{far, addrOf(fmt.Sprintf("%s:%d", from, n.ports))}
	n.mu.Unlock()
	select {
	case l.accept <- remote:
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	go k.pump(a, b)
	go k.pump(b, a)
	return near, nil
}

type link struct {
	from, to string
	dead     atomic.Bool
}

// pump carries bytes one way until its end is closed. A dead link swallows
// them, and the news of the end.
func (k *link) pump(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !k.dead.Load() && n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if !k.dead.Load() {
				_ = to.Close()
			}
			return
		}
	}
}

type listener struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return addrOf("listener") }

type addrOf string

func (addrOf) Network() string  { return "memory" }
func (a addrOf) String() string { return string(a) }

type named struct {
	net.Conn
	remote net.Addr
}

func (n named) RemoteAddr() net.Addr { return n.remote }

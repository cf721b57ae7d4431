package gossip

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxStream bounds what one stream may send before memberlist has checked
	// who sends it. The state of 10,000 nodes is about 2 MiB.
	maxStream = 8 << 20
	// maxStreams bounds how many incoming streams are open at once.
	maxStreams = 32
	// dialTimeout: nodes of one cluster answer in milliseconds, and Run waits
	// for a dial even when it is told to end.
	dialTimeout = 3 * time.Second
)

// bounded is memberlist's network with limits on what strangers can cost.
type bounded struct {
	*memberlist.NetTransport
	streams chan net.Conn
	slots   chan struct{}
	refused prometheus.Counter
	stop    chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

func listen(addr string, port int, log slog.Handler, refused prometheus.Counter) (*bounded, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{addr}, BindPort: port, Logger: slog.NewLogLogger(log, slog.LevelInfo),
	})
	if err != nil {
		return nil, fmt.Errorf("listen for gossip: %w", err)
	}
	b := &bounded{
		NetTransport: inner,
		streams:      make(chan net.Conn),
		slots:        make(chan struct{}, maxStreams),
		refused:      refused,
		stop:         make(chan struct{}),
	}
	b.done.Go(b.admit)
	return b, nil
}

// admit passes streams on while there is room.
func (b *bounded) admit() {
	for {
		select {
		case <-b.stop:
			return
		case conn := <-b.NetTransport.StreamCh():
			select {
			case b.slots <- struct{}{}:
			default:
				b.refused.Inc()
				conn.Close()
				continue
			}
			stream := &stream{Conn: conn, left: maxStream, release: sync.OnceFunc(func() { <-b.slots })}
			select {
			case b.streams <- stream:
			case <-b.stop:
				_ = stream.Close() // nobody has used it
				return
			}
		}
	}
}

// StreamCh implements memberlist.Transport.
func (b *bounded) StreamCh() <-chan net.Conn { return b.streams }

// DialTimeout implements memberlist.Transport.
func (b *bounded) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return b.NetTransport.DialTimeout(addr, min(timeout, dialTimeout))
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (b *bounded) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return b.NetTransport.DialAddressTimeout(a, min(timeout, dialTimeout))
}

// Shutdown implements memberlist.Transport. The listeners end only while
// somebody takes their streams, so admit ends after them.
func (b *bounded) Shutdown() error {
	var err error
	b.once.Do(func() {
		err = b.NetTransport.Shutdown()
		close(b.stop)
		b.done.Wait()
	})
	return err
}

// stream is an incoming connection that may send so much and no more.
type stream struct {
	net.Conn
	left    int
	release func()
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, fmt.Errorf("gossip stream of over %d bytes: %w", maxStream, io.ErrShortBuffer)
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.release()
	return s.Conn.Close()
}

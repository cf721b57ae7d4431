package raftstore

import (
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// NewStream makes the connections that a store speaks over from a listener of
// accepted ones and a way to dial a manager's cluster listener.
func NewStream(l net.Listener, dial func(addr string, timeout time.Duration) (net.Conn, error)) raft.StreamLayer {
	return stream{l, dial}
}

type stream struct {
	net.Listener
	dial func(string, time.Duration) (net.Conn, error)
}

func (s stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.dial(string(addr), timeout)
}

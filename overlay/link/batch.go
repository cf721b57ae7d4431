package link

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batch has the kernel make changes, many in one write: a round trip for each
// would cost more than the change. What it is given is made by flush at the latest.
type batch struct {
	socket  int
	pending changes
	bytes   []byte  // messages of pending
	made    changes // what the kernel has done
}

// batchSize keeps the kernel's answers within what a socket holds by default
// (208 kB, of which an answer takes less than 1), should all be refusals.
const batchSize = 200

func newBatch() (*batch, error) {
	// The kernel has answered when a write returns, so that nothing is waited for.
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	err = unix.SetsockoptInt(socket, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1) // answers do not repeat the question
	if err == nil {
		err = unix.Connect(socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) // to the kernel: nobody else is heard
	}
	if err != nil {
		_ = unix.Close(socket)
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &batch{socket: socket}, nil
}

func (b *batch) close() { _ = unix.Close(b.socket) }

// add has a change made by a message, soon.
func (b *batch) add(c change, m *nl.NetlinkRequest) error {
	m.Seq = uint32(len(b.pending)) //nolint:gosec // below batchSize
	b.pending = append(b.pending, c)
	b.bytes = append(b.bytes, m.Serialize()...)
	if len(b.pending) == batchSize {
		return b.flush()
	}
	return nil
}

// flush has everything made that was added. The error is of the first change
// that the kernel refuses; those behind it are made all the same.
func (b *batch) flush() (err error) {
	if len(b.pending) == 0 {
		return nil
	}
	pending, bytes := b.pending, b.bytes
	b.pending, b.bytes = b.pending[:0], b.bytes[:0]
	// Refusals are always answered; what has come of the rest is known when this
	// is, which changes nothing.
	end := nl.NewNetlinkRequest(unix.NLMSG_NOOP, unix.NLM_F_ACK)
	end.Seq = batchSize
	if _, err := unix.Write(b.socket, append(bytes, end.Serialize()...)); err != nil {
		return fmt.Errorf("write %d changes: %w", len(pending), err)
	}
	refused, err := b.answers()
	if err != nil {
		return fmt.Errorf("read what came of %d changes: %w", len(pending), err)
	}
	for i, c := range pending {
		err = cmp.Or(err, b.note(c, refused[i]))
	}
	return err
}

// answers are the refusals of the last write, by number of the change.
func (b *batch) answers() (map[int]error, error) {
	refused := map[int]error{}
	var buf [512]byte
	for {
		n, err := unix.Read(b.socket, buf[:])
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				return nil, fmt.Errorf("answer of type %d", m.Header.Type)
			}
			if m.Header.Seq == batchSize {
				return refused, nil
			}
			if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 { //nolint:gosec // it is signed
				refused[int(m.Header.Seq)] = unix.Errno(errno)
			}
		}
	}
}

// note keeps account of what came of a change. One that somebody else has made
// before is as good as made.
func (b *batch) note(c change, err error) error {
	_, rule := c.what.(Rule)
	if err == nil || !c.add && missing(err) || rule && errors.Is(err, unix.EEXIST) {
		b.made = append(b.made, c)
		return nil
	}
	return fmt.Errorf("%s: %w", c, err)
}

package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pollFiles: the kernel tells nobody when a file below /proc/sys changes; half
// of the 2 s in which damage is to be repaired.
const pollFiles = time.Second

// eventBuffer takes in a burst of some thousands of events. More are an
// overrun, which is told as a change.
const eventBuffer = 4 << 20

// watch tells of changes until ctx ends. It subscribes again after errors and
// tells then too, as anything may have been missed.
func watch(ctx context.Context, sight *sight, log *slog.Logger, notify func()) error {
	ticker := time.NewTicker(pollFiles)
	defer ticker.Stop()
	told := map[string]string{}
	for ctx.Err() == nil {
		events, err := subscribe(sight)
		if err != nil {
			log.Warn("cannot watch the kernel, trying again", "err", err)
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
			continue
		}
		notify()
		if err := events.serve(ctx, ticker.C, told, notify); ctx.Err() == nil {
			log.Debug("watch of the kernel begins again", "err", err)
		}
	}
	return ctx.Err()
}

// events is a subscription. One goroutine reads it; serve waits for its end.
type events struct {
	sight   *sight
	socket  *nl.NetlinkSocket
	links   map[int]seen
	ports   map[int]string
	changed chan struct{} // holds one
	ended   chan error
}

// seen is what was told of a link last.
type seen struct{ name, kind, looks string }

func subscribe(sight *sight) (*events, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to netlink: %w", err)
	}
	e := &events{
		sight: sight, socket: socket, links: map[int]seen{}, ports: map[int]string{},
		changed: make(chan struct{}, 1), ended: make(chan error, 1),
	}
	err = socket.SetReceiveBufferSize(eventBuffer, true)
	if err == nil {
		err = e.listLinks()
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	return e, nil
}

// listLinks learns the names and looks of links and ports, so that the first
// event about one is told only if something has changed.
func (e *events) listLinks() error {
	for _, family := range []int{unix.AF_UNSPEC, unix.AF_BRIDGE} {
		err := dump(func() error {
			req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
			req.AddData(nl.NewIfInfomsg(family))
			return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, func(msg []byte) bool {
				e.strange(unix.RTM_NEWLINK, msg)
				return true
			})
		})
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
	}
	return nil
}

// serve tells of what the reader finds, and looks at the files, until the reader
// ends: by itself, or with ctx.
func (e *events) serve(ctx context.Context, tick <-chan time.Time, told map[string]string, notify func()) error {
	go func() { e.ended <- e.read() }()
	defer e.socket.Close()
	for {
		select {
		case <-e.changed:
			notify()
		case <-tick:
			if e.filesChanged(told) {
				notify()
			}
		case err := <-e.ended:
			return err
		case <-ctx.Done():
			e.socket.Close()
			return <-e.ended
		}
	}
}

// filesChanged reports whether a file has come to hold something wrong. It is
// told once: what cannot be repaired is not a change.
func (e *events) filesChanged(told map[string]string) bool {
	other := e.sight.files()
	fresh := false
	for path, value := range other {
		if old, is := told[path]; !is || old != value {
			told[path], fresh = value, true
		}
	}
	for path := range told {
		if _, is := other[path]; !is {
			delete(told, path)
		}
	}
	return fresh
}

// read takes in events until the socket is closed.
func (e *events) read() error {
	for {
		msgs, from, err := e.socket.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("events were lost: %w", err)
		}
		if err != nil {
			return err
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		strange := false
		for _, m := range msgs {
			strange = e.strange(m.Header.Type, m.Data) || strange
		}
		if strange {
			select {
			case e.changed <- struct{}{}:
			default: // told and not yet taken
			}
		}
	}
}

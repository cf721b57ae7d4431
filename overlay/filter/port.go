package filter

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// ports holds published ports of this host, so that no other program takes
// them: sockets that are bound and neither listen nor answer.
type ports struct {
	held  map[string][]int // file descriptors, by "tcp/8080"
	other []string         // those that foreign processes hold
}

func newPorts() *ports { return &ports{held: map[string][]int{}} }

func keyOf(p Port) string { return fmt.Sprintf("%s/%d", p.Protocol, p.Port) }

// hold holds these ports and no others.
func (p *ports) hold(want []Port) {
	wanted := map[string]bool{}
	p.other = nil
	for _, port := range want {
		key := keyOf(port)
		wanted[key] = true
		if p.held[key] != nil {
			continue
		}
		fds, err := bind(port)
		if err != nil {
			p.other = append(p.other, key)
			continue
		}
		p.held[key] = fds
	}
	for key, fds := range p.held {
		if !wanted[key] {
			_ = closeAll(fds) // nothing was written to them
			delete(p.held, key)
		}
	}
}

func (p *ports) taken() []string { return slices.Clone(p.other) }

func (p *ports) close() error {
	var errs []error
	for key, fds := range p.held {
		errs = append(errs, closeAll(fds))
		delete(p.held, key)
	}
	return errors.Join(errs...)
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// bind takes a port for both families; one that the kernel lacks is no reason
// to fail.
func bind(p Port) (fds []int, err error) {
	kind := unix.SOCK_STREAM
	if p.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	for _, at := range []struct {
		family int
		addr   unix.Sockaddr
	}{{unix.AF_INET, &unix.SockaddrInet4{Port: int(p.Port)}}, {unix.AF_INET6, &unix.SockaddrInet6{Port: int(p.Port)}}} {
		fd, err := unix.Socket(at.family, kind|unix.SOCK_CLOEXEC, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, closeAll(fds))
		}
		fds = append(fds, fd)
		if at.family == unix.AF_INET6 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
				return nil, errors.Join(err, closeAll(fds))
			}
		}
		if err := unix.Bind(fd, at.addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, errors.Join(err, closeAll(fds))
		}
	}
	return fds, nil
}

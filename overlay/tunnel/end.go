package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// end is a device that this process serves. WireGuard's sockets are of the
// network namespace of the process, whatever that of the calling thread is.
type end struct {
	index     int // of the link: another one with its name is not ours
	device    *device.Device
	endpoints map[string]netip.AddrPort // as they were set, by public key
}

// start attaches to the device, which it makes if it is not there.
func start(w Want, log *slog.Logger) (*end, error) {
	file, err := attach(w.Link)
	if err != nil {
		return nil, err
	}
	// Up before WireGuard looks: it takes a link that is down as a request to
	// close its sockets.
	index, err := raise(w)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	t, err := tun.CreateTUNFromFile(file, w.MTU)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tunnel device %s: %w", w.Link, err), file.Close())
	}
	return &end{index: index, device: device.NewDevice(t, conn.NewDefaultBind(), logger(log)), endpoints: map[string]netip.AddrPort{}}, nil
}

// attach opens the TUN device of this name and makes it persistent.
func attach(name string) (*os.File, error) {
	file, err := openTUN(name)
	if errors.Is(err, unix.EINVAL) {
		// A link of another kind has our name: nobody else may make such ones.
		if err := removeLink(name); err != nil {
			return nil, err
		}
		file, err = openTUN(name)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("tunnel device %s is in use by another process: %w", name, errdefs.ErrUnavailable)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("tunnel device %s: this kernel has no /dev/net/tun, load the module tun: %w", name, errdefs.ErrFailedPrecondition)
	case err != nil:
		return nil, fmt.Errorf("tunnel device %s: %w", name, err)
	}
	return file, nil
}

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		// As wireguard-go does: without the header it would know nothing of
		// offloads, and be half as fast.
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// raise gives the link its MTU and sets it up.
func raise(w Want) (index int, err error) {
	link, err := netlink.LinkByName(w.Link)
	if err == nil && link.Attrs().MTU != w.MTU {
		err = netlink.LinkSetMTU(link, w.MTU)
	}
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return 0, fmt.Errorf("set up tunnel device %s: %w", w.Link, err)
	}
	return link.Attrs().Index, nil
}

// alive reports whether the device is still there and served. One that was
// deleted ends by itself when it is next read from.
func (e *end) alive(name string) bool {
	select {
	case <-e.device.Wait():
		return false
	default:
	}
	link, err := netlink.LinkByName(name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return false
	}
	return err != nil || link.Attrs().Index == e.index
}

// fixLink sets right what another hand may have changed of the link.
func (e *end) fixLink(w Want) (differed []string, err error) {
	link, err := netlink.LinkByName(w.Link)
	if err != nil {
		return nil, fmt.Errorf("tunnel device %s: %w", w.Link, err)
	}
	if got := link.Attrs().MTU; got != w.MTU {
		differed = append(differed, fmt.Sprintf("tunnel device %s has MTU %d, want %d", w.Link, got, w.MTU))
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		differed = append(differed, fmt.Sprintf("tunnel device %s is down", w.Link))
	}
	if len(differed) == 0 {
		return nil, nil
	}
	_, err = raise(w)
	return differed, err
}

// configure tells WireGuard what differs from what it has.
func (e *end) configure(w Want) (differed []string, err error) {
	text, err := e.device.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("read tunnel %s: %w", w.Link, err)
	}
	have, err := parse(text)
	if err != nil {
		return nil, err
	}
	for i, p := range have.Peers {
		// Where a peer has moved to by itself is no difference; what was told is.
		have.Peers[i].Endpoint = e.endpoints[string(p.PublicKey)]
	}
	text, differed = changes(have, w)
	if text != "" {
		if err := e.device.IpcSet(text); err != nil {
			return differed, fmt.Errorf("configure tunnel %s: %w", w.Link, err)
		}
	}
	clear(e.endpoints)
	for _, p := range w.Peers {
		e.endpoints[string(p.PublicKey)] = p.Endpoint
	}
	// Also after a failure to bind its port, of which nothing is left to see.
	if err := e.device.Up(); err != nil {
		return differed, fmt.Errorf("tunnel %s: listen on port %d/udp: %w", w.Link, w.Port, err)
	}
	return differed, nil
}

func (e *end) close() { e.device.Close() }

// Purge removes the device.
func Purge(link string) error { return removeLink(link) }

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove device %s: %w", name, err)
	}
	return nil
}

// logger passes on what WireGuard says. Even its errors are nothing that anyone
// must act on: a peer that is away is one.
func logger(log *slog.Logger) *device.Logger {
	say := func(format string, args ...any) {
		if log.Enabled(context.Background(), slog.LevelDebug) {
			log.Debug("wireguard", "text", fmt.Sprintf(format, args...))
		}
	}
	return &device.Logger{Verbosef: say, Errorf: say}
}

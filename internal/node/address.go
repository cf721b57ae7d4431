package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const defaultPort = 2377

// addresses are where a node listens and where others reach it.
type addresses struct {
	listen    string // host:port, the host may be 0.0.0.0
	advertise string // host:port
	asked     asked
}

// resolveAddresses reads the addresses of an init or join request as Swarm
// does: an IP or an interface's name, with or without a port.
func resolveAddresses(listen, advertise string) (addresses, error) {
	host, port, err := splitAddress(listen, "0.0.0.0", defaultPort)
	if err != nil {
		return addresses{}, invalid("invalid ListenAddr %q: %v", listen, err)
	}
	listenIP, err := lookupIP(host)
	if err != nil {
		return addresses{}, invalid("invalid ListenAddr %q: %v", listen, err)
	}
	a := addresses{listen: net.JoinHostPort(listenIP.String(), port)}
	if advertise == "" {
		ip, err := defaultAdvertise(listenIP)
		if err != nil {
			return addresses{}, err
		}
		a.advertise = net.JoinHostPort(ip.String(), port)
		return a, nil
	}
	listenPort, _ := strconv.Atoi(port)
	host, port, err = splitAddress(advertise, "", listenPort)
	if err != nil {
		return addresses{}, invalid("advertise address must be a non-zero IP address or network interface (with optional port number): got %q", advertise)
	}
	ip, err := lookupIP(host)
	if err != nil {
		return addresses{}, invalid("advertise address must be a non-zero IP address or network interface (with optional port number): %q: %v", advertise, err)
	}
	if ip.IsUnspecified() {
		return addresses{}, invalid("advertise address must be a non-zero IP address or network interface (with optional port number): got %q", advertise)
	}
	a.advertise = net.JoinHostPort(ip.String(), port)
	return a, nil
}

// splitAddress cuts HOST[:PORT] and fills in what is missing.
func splitAddress(s, host string, port int) (string, string, error) {
	if s == "" {
		return host, strconv.Itoa(port), nil
	}
	if _, err := netip.ParseAddr(s); err == nil || !strings.Contains(s, ":") {
		return s, strconv.Itoa(port), nil
	}
	h, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", "", err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", "", fmt.Errorf("port %q is not a number from 1 to 65535", p)
	}
	if h == "" {
		h = host
	}
	if h == "" {
		return "", "", errors.New("it has no host")
	}
	return h, p, nil
}

// lookupIP reads an IP address, or finds the one of an interface.
func lookupIP(host string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap(), nil
	}
	iface, err := net.InterfaceByName(host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is neither an IP address nor a network interface: no such interface", host)
	}
	ips, err := usableIPs(*iface)
	if err != nil {
		return netip.Addr{}, err
	}
	switch len(ips) {
	case 0:
		return netip.Addr{}, fmt.Errorf("interface %s has no usable IP addresses", host)
	case 1:
		return ips[0], nil
	}
	return netip.Addr{}, fmt.Errorf("interface %s has more than one IP address (%s and %s)", host, ips[0], ips[1])
}

// usableIPs are the addresses of an interface that others can reach: IPv4
// first, and IPv6 only where there is no IPv4.
func usableIPs(iface net.Interface) ([]netip.Addr, error) {
	addrs, err := iface.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of interface %s: %w", iface.Name, err)
	}
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() && !prefix.Addr().IsLoopback() {
			continue
		}
		if ip := prefix.Addr().Unmap(); ip.Is4() {
			v4 = append(v4, ip)
		} else {
			v6 = append(v6, ip)
		}
	}
	if len(v4) > 0 {
		return v4, nil
	}
	return v6, nil
}

// defaultAdvertise chooses the address to advertise when the user gave none:
// that of the listener, else the machine's only one.
func defaultAdvertise(listen netip.Addr) (netip.Addr, error) {
	if !listen.IsUnspecified() {
		return listen, nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list network interfaces: %w", err)
	}
	var found netip.Addr
	var foundOn string
	for _, iface := range interfaces {
		if iface.Flags&net.FlagUp == 0 || iface.Flags&net.FlagLoopback != 0 || isContainerBridge(iface.Name) {
			continue
		}
		ips, err := usableIPs(iface)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, ip := range ips {
			if found.IsValid() {
				return netip.Addr{}, invalid("could not choose an IP address to advertise since this system has multiple addresses on different interfaces (%s on %s and %s on %s): specify one with --advertise-addr", found, foundOn, ip, iface.Name)
			}
			found, foundOn = ip, iface.Name
		}
	}
	if !found.IsValid() {
		return netip.Addr{}, invalid("could not find the system's IP address: specify one with --advertise-addr")
	}
	return found, nil
}

// isContainerBridge reports whether an interface was made for containers, so
// that its address is not one of the machine.
func isContainerBridge(name string) bool {
	for _, prefix := range []string{"docker", "br-", "veth", "shoal"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

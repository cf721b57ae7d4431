package node

import (
	"net"
	"strings"
	"testing"
)

func TestResolveAddresses(t *testing.T) {
	for name, c := range map[string]struct{ listen, advertise, wantListen, wantAdvertise string }{
		"specific listener":    {"127.0.0.1:2400", "", "127.0.0.1:2400", "127.0.0.1:2400"},
		"no port":              {"127.0.0.1", "", "127.0.0.1:2377", "127.0.0.1:2377"},
		"interface":            {"lo", "", "127.0.0.1:2377", "127.0.0.1:2377"},
		"interface and port":   {"lo:99", "", "127.0.0.1:99", "127.0.0.1:99"},
		"advertise":            {"0.0.0.0:2377", "10.0.0.5", "0.0.0.0:2377", "10.0.0.5:2377"},
		"advertise, own port":  {"0.0.0.0:2400", "10.0.0.5", "0.0.0.0:2400", "10.0.0.5:2400"},
		"advertise, with port": {"", "10.0.0.5:3000", "0.0.0.0:2377", "10.0.0.5:3000"},
		"IPv6":                 {"[::1]:2400", "", "[::1]:2400", "[::1]:2400"},
		"IPv6 without port":    {"::1", "", "[::1]:2377", "[::1]:2377"},
	} {
		got, err := resolveAddresses(c.listen, c.advertise)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.listen != c.wantListen || got.advertise != c.wantAdvertise {
			t.Errorf("%s: %+v, want %s and %s", name, got, c.wantListen, c.wantAdvertise)
		}
	}
}

func TestResolveAddressesRefuses(t *testing.T) {
	for name, c := range map[string]struct{ listen, advertise, want string }{
		"no such interface":      {"eth99", "10.0.0.1", `invalid ListenAddr "eth99": "eth99" is neither an IP address nor a network interface: no such interface`},
		"bad port":               {"127.0.0.1:x", "", `invalid ListenAddr "127.0.0.1:x": port "x" is not a number from 1 to 65535`},
		"port 0":                 {"127.0.0.1:0", "", `port "0" is not a number`},
		"port too large":         {"127.0.0.1:65536", "", `port "65536" is not a number`},
		"advertise nothing":      {"", "0.0.0.0", "advertise address must be a non-zero IP address or network interface"},
		"advertise no host":      {"", ":2377", "advertise address must be a non-zero IP address or network interface"},
		"advertise no address":   {"", "somewhere", `no such interface`},
		"advertise bad brackets": {"", "[::1", "advertise address must be"},
	} {
		_, err := resolveAddresses(c.listen, c.advertise)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want it to contain %q", name, err, c.want)
		}
	}
}

func TestDefaultAdvertiseIsTheListenerOrTheOnlyAddress(t *testing.T) {
	got, err := resolveAddresses("0.0.0.0:2377", "")
	if err != nil {
		if !strings.Contains(err.Error(), "--advertise-addr") {
			t.Errorf("the refusal names no way out: %v", err)
		}
		return // a machine with several addresses, or none
	}
	host, _, _ := net.SplitHostPort(got.advertise)
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		t.Errorf("chose %s", got.advertise)
	}
}

package tunnel

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// keepalive, in seconds, is how often something is sent to a silent peer, as
// WireGuard advises: sessions are then there when they are needed, and an end
// that was restarted makes new ones at once instead of after the 15 s in which
// the other end waits for an answer.
const keepalive = 25

// parse reads what a device says of itself. Endpoints are where packets came
// from last.
func parse(text string) (have Want, err error) {
	var peer *Peer
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "private_key":
			have.PrivateKey, err = hex.DecodeString(value)
		case "listen_port":
			have.Port, err = strconv.Atoi(value)
		case "public_key":
			have.Peers = append(have.Peers, Peer{})
			peer = &have.Peers[len(have.Peers)-1]
			peer.PublicKey, err = hex.DecodeString(value)
		case "preshared_key", "endpoint", "allowed_ip":
			if peer == nil {
				return have, fmt.Errorf("tunnel device: %s before any peer: %w", key, errdefs.ErrDataLoss)
			}
			err = peer.parse(key, value)
		}
		if err != nil {
			return have, fmt.Errorf("tunnel device: %s cannot be read: %w", key, errdefs.ErrDataLoss)
		}
	}
	for i := range have.Peers {
		have.Peers[i].Allowed = sorted(have.Peers[i].Allowed)
	}
	return have, nil
}

func (p *Peer) parse(key, value string) (err error) {
	switch key {
	case "preshared_key":
		p.Preshared, err = hex.DecodeString(value)
	case "endpoint":
		p.Endpoint, err = netip.ParseAddrPort(value)
	default:
		var prefix netip.Prefix
		prefix, err = netip.ParsePrefix(value)
		p.Allowed = append(p.Allowed, prefix)
	}
	return err
}

// changes is what makes a device that is as have as want is, in WireGuard's
// configuration protocol, and what differed in words without secrets. Nothing
// is said of what is the same, so its sessions go on.
func changes(have, want Want) (text string, differed []string) {
	var out strings.Builder
	set := func(key string, value any) { fmt.Fprintf(&out, "%s=%v\n", key, value) }
	differ := func(format string, args ...any) { differed = append(differed, fmt.Sprintf(format, args...)) }
	if !bytes.Equal(have.PrivateKey, want.PrivateKey) {
		set("private_key", hex.EncodeToString(want.PrivateKey))
		differ("private key")
	}
	if have.Port != want.Port {
		set("listen_port", want.Port)
		differ("port %d, want %d", have.Port, want.Port)
	}
	there, wanted := byKey(have.Peers), byKey(want.Peers)
	for _, p := range have.Peers {
		if _, ok := wanted[string(p.PublicKey)]; !ok {
			set("public_key", hex.EncodeToString(p.PublicKey))
			set("remove", true)
			differ("peer %s is not wanted", p.Endpoint)
		}
	}
	for _, p := range want.Peers {
		old, ok := there[string(p.PublicKey)]
		if what := p.changes(old, !ok, set); len(what) > 0 {
			differ("peer %s: %s", p.Endpoint, strings.Join(what, ", "))
		}
	}
	return out.String(), differed
}

// changes says in what p differs from old, and tells it to set.
func (p Peer) changes(old Peer, isNew bool, set func(key string, value any)) (what []string) {
	psk, endpoint := !bytes.Equal(old.Preshared, p.Preshared), old.Endpoint != p.Endpoint
	allowed := !slices.Equal(old.Allowed, p.Allowed)
	if !isNew && !psk && !endpoint && !allowed {
		return nil
	}
	set("public_key", hex.EncodeToString(p.PublicKey))
	if isNew {
		what = append(what, "missing")
		set("persistent_keepalive_interval", keepalive)
	}
	if psk {
		set("preshared_key", hex.EncodeToString(p.Preshared))
		what = append(what, "preshared key")
	}
	if endpoint {
		set("endpoint", p.Endpoint)
		what = append(what, "endpoint")
	}
	if allowed {
		set("replace_allowed_ips", true)
		for _, prefix := range p.Allowed {
			set("allowed_ip", prefix)
		}
		what = append(what, "addresses")
	}
	if isNew {
		return what[:1]
	}
	return what
}

func byKey(peers []Peer) map[string]Peer {
	m := make(map[string]Peer, len(peers))
	for _, p := range peers {
		m[string(p.PublicKey)] = p
	}
	return m
}

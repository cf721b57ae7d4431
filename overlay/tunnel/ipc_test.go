package tunnel

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func key(n byte) []byte { return bytes.Repeat([]byte{n}, keySize) }

func peer(n byte) Peer {
	return Peer{
		PublicKey: key(n), Preshared: key(100 + n), Endpoint: netip.MustParseAddrPort("192.0.2." + string('0'+rune(n)) + ":7947"),
		Allowed: []netip.Prefix{netip.MustParsePrefix("10.252." + string('0'+rune(n)) + ".253/32"), netip.MustParsePrefix("fd00::" + string('0'+rune(n)) + "/128")},
	}
}

func wanted(peers ...Peer) Want {
	return normalise(Want{Link: "shoalwg", PrivateKey: key(9), Port: 7947, MTU: 1420, Peers: peers})
}

// without returns a peer that was changed.
func without(p Peer, change func(*Peer)) Peer {
	p.Allowed = slices.Clone(p.Allowed)
	change(&p)
	return p
}

func TestChangesAreOnlyWhatDiffers(t *testing.T) {
	one, two := hex.EncodeToString(key(1)), hex.EncodeToString(key(2))
	for name, c := range map[string]struct {
		have, want Want
		text       []string
		differed   []string
	}{
		"nothing": {wanted(peer(1)), wanted(peer(1)), nil, nil},
		"all": {
			Want{},
			wanted(peer(1)),
			[]string{
				"private_key=" + hex.EncodeToString(clamp(key(9))), "listen_port=7947", "public_key=" + one, "persistent_keepalive_interval=25",
				"preshared_key=" + hex.EncodeToString(key(101)), "endpoint=192.0.2.1:7947", "replace_allowed_ips=true", "allowed_ip=10.252.1.253/32", "allowed_ip=fd00::1/128",
			},
			[]string{"private key", "port 0, want 7947", "peer 192.0.2.1:7947: missing"},
		},
		"a peer more":     {wanted(peer(1)), wanted(peer(1), without(peer(2), func(p *Peer) { p.Allowed = nil })), []string{"public_key=" + two, "persistent_keepalive_interval=25", "preshared_key=" + hex.EncodeToString(key(102)), "endpoint=192.0.2.2:7947"}, []string{"peer 192.0.2.2:7947: missing"}},
		"a peer less":     {wanted(peer(1), peer(2)), wanted(peer(1)), []string{"public_key=" + two, "remove=true"}, []string{"peer 192.0.2.2:7947 is not wanted"}},
		"a preshared key": {wanted(peer(1), peer(2)), wanted(peer(1), without(peer(2), func(p *Peer) { p.Preshared = key(7) })), []string{"public_key=" + two, "preshared_key=" + hex.EncodeToString(key(7))}, []string{"peer 192.0.2.2:7947: preshared key"}},
		"an endpoint":     {wanted(peer(1)), wanted(without(peer(1), func(p *Peer) { p.Endpoint = netip.MustParseAddrPort("192.0.2.7:1") })), []string{"public_key=" + one, "endpoint=192.0.2.7:1"}, []string{"peer 192.0.2.7:1: endpoint"}},
		"addresses":       {wanted(peer(1)), wanted(without(peer(1), func(p *Peer) { p.Allowed = p.Allowed[:1] })), []string{"public_key=" + one, "replace_allowed_ips=true", "allowed_ip=10.252.1.253/32"}, []string{"peer 192.0.2.1:7947: addresses"}},
	} {
		text, differed := changes(c.have, c.want)
		want := ""
		for _, line := range c.text {
			want += line + "\n"
		}
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(c.differed, differed); diff != "" {
			t.Errorf("%s, in words (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhatDifferedTellsNoKey(t *testing.T) {
	_, differed := changes(Want{}, wanted(peer(1), peer(2)))
	for _, secret := range [][]byte{key(9), clamp(key(9)), key(101), key(102)} {
		if text := strings.Join(differed, "\n"); strings.Contains(text, hex.EncodeToString(secret)) {
			t.Errorf("a key in %q", text)
		}
	}
}

func TestParseReadsWhatTheDeviceSays(t *testing.T) {
	w := wanted(peer(1), peer(2))
	text, _ := changes(Want{}, w)
	text = strings.ReplaceAll(text, "\nreplace_allowed_ips=true", "\nlast_handshake_time_sec=0\ntx_bytes=12")
	have, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, differed := changes(have, w); again != "" || differed != nil {
		t.Errorf("after applying: %q, %v", again, differed)
	}
	for _, bad := range []string{"private_key=xyz", "listen_port=x", "endpoint=192.0.2.1:1", "public_key=00\nallowed_ip=10.0.0.0"} {
		if _, err := parse(bad); !errdefs.IsDataLoss(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNormaliseDropsSelfAndDoubles(t *testing.T) {
	self, err := PublicKey(key(9))
	if err != nil {
		t.Fatal(err)
	}
	w := wanted(peer(1), without(peer(2), func(p *Peer) { p.PublicKey = self }), without(peer(3), func(p *Peer) { p.PublicKey = key(1) }))
	if len(w.Peers) != 1 || w.Peers[0].Endpoint != peer(1).Endpoint {
		t.Errorf("peers: %v", w.Peers)
	}
}

func TestApplyRefusesWhatCannotBe(t *testing.T) {
	good := Want{Link: "shoalwg", PrivateKey: key(9), Port: 7947, MTU: 1420}
	for name, change := range map[string]func(*Want){
		"no name": func(w *Want) { w.Link = "" }, "long name": func(w *Want) { w.Link = "sixteen-letters-" },
		"short key": func(w *Want) { w.PrivateKey = key(9)[:31] }, "port": func(w *Want) { w.Port = 65536 }, "MTU": func(w *Want) { w.MTU = 0 },
		"peer without a preshared key": func(w *Want) { w.Peers = []Peer{without(peer(1), func(p *Peer) { p.Preshared = nil })} },
		"peer without an endpoint":     func(w *Want) { w.Peers = []Peer{without(peer(1), func(p *Peer) { p.Endpoint = netip.AddrPort{} })} },
	} {
		w := good
		change(&w)
		if err := New(nil).Apply(&w); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPresharedIsThePairsOwn(t *testing.T) {
	k1, k2, a, b, c := key(1), key(2), key(3), key(4), key(5)
	psk := Preshared(k1, a, b)
	if len(psk) != keySize || !bytes.Equal(psk, Preshared(k1, b, a)) {
		t.Errorf("both ends: %x, %x", psk, Preshared(k1, b, a))
	}
	for _, other := range [][]byte{Preshared(k2, a, b), Preshared(k1, a, c), Preshared(k1, c, b)} {
		if bytes.Equal(psk, other) {
			t.Errorf("another pair or key gives %x too", psk)
		}
	}
	// What nodes of different versions must agree on.
	if got, want := hex.EncodeToString(psk), "1b4eaca9fbe0702209a12ed4412e8eb9cb8006486df07b9b5f8e4a6f18440765"; got != want {
		t.Errorf("preshared key %s, want %s", got, want)
	}
}

func TestPublicKey(t *testing.T) {
	private := key(255)
	public, err := PublicKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := PublicKey(clamp(private)); err != nil || !bytes.Equal(public, again) {
		t.Errorf("clamped: %x, %v", again, err)
	}
	if _, err := PublicKey(private[:31]); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a short key: %v", err)
	}
}

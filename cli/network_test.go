package cli

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/google/go-cmp/cmp"
)

func TestNetworkCommands(t *testing.T) {
	for _, c := range []struct{ line, stdout, sent string }{
		{"network ls", "NETWORK ID     NAME      DRIVER    SCOPE\n0123456789ab   lan       bridge    local\nnetwork1xxxx   web2      overlay   swarm\nnetwork2xxxx   web10     overlay   swarm\n", ""},
		{"network ls -q --no-trunc", "0123456789abcdef0123456789abcdef\nnetwork1xxxxxxxxxxxxxxxxx\nnetwork2xxxxxxxxxxxxxxxxx\n", ""},
		{"network ls --format '{{.Name}} {{.Labels}} {{.Label \"a\"}} {{.IPv6}}{{.Internal}}'", "lan   falsefalse\nweb2   truetrue\nweb10 a=1,b=2 1 falsefalse\n", ""},
		{"network rm a b", "a\nb\n", "DELETE /networks/a DELETE /networks/b"},
		{"network rm -f nosuch a", "a\n", "DELETE /networks/nosuch DELETE /networks/a"},
		{"network prune -f", "Deleted Networks:\nidle\nold\n\n", "POST /networks/prune"},
		{"network connect --alias db --ip 10.0.1.9 back box", "", "POST /networks/back/connect"},
		{"network disconnect back box -f", "", "POST /networks/back/disconnect"},
		{"network inspect --format {{.ID}} back", "id-of-back\n", ""},
		{"network create -d overlay back", "newnetworkidxxxxxxxxxxxxx\n", "POST /networks/create"},
	} {
		f := newFakeServer(t)
		args, err := splitWords(c.line)
		if err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := f.run(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit %d, stderr %q", c.line, code, stderr)
		}
		if diff := cmp.Diff(c.stdout, stdout); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.line, diff)
		}
		if got := strings.Join(f.writes(), " "); got != c.sent {
			t.Errorf("%s sent %q, want %q", c.line, got, c.sent)
		}
	}
}

func TestNetworkCreateSendsWhatWasGiven(t *testing.T) {
	f := newFakeServer(t)
	line := "network create --attachable --internal --ipv6 --scope swarm -o encrypted --opt com.docker.network.driver.mtu=1300 --label a=1 " +
		"--subnet 10.9.0.0/24 --subnet fd00:9::/64 --ip-range 10.9.0.128/25 --gateway 10.9.0.2,fd00:9::2 --aux-address p=10.9.0.200 back"
	if _, stderr, code := f.run(t, strings.Fields(line)...); code != 0 {
		t.Fatal(stderr)
	}
	var got network.CreateRequest
	f.body(t, "POST /networks/create", &got)
	want := network.CreateRequest{Name: "back", CreateOptions: network.CreateOptions{
		Driver: "overlay", Scope: "swarm", EnableIPv6: new(true), Attachable: true, Internal: true,
		Options: map[string]string{"encrypted": "", "com.docker.network.driver.mtu": "1300"}, Labels: map[string]string{"a": "1"},
		IPAM: &network.IPAM{Driver: "default", Options: map[string]string{}, Config: []network.IPAMConfig{
			{Subnet: "10.9.0.0/24", IPRange: "10.9.0.128/25", Gateway: "10.9.0.2", AuxAddress: map[string]string{"p": "10.9.0.200"}},
			{Subnet: "fd00:9::/64", Gateway: "fd00:9::2"},
		}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestNetworkPruneAsks(t *testing.T) {
	f := newFakeServer(t)
	stdout, stderr, code := f.run(t, "network", "prune")
	if code != 1 || !strings.Contains(stdout, "Are you sure you want to continue? [y/N]") || stderr != "network prune has been cancelled\n" || len(f.writes()) > 0 {
		t.Errorf("exit %d, stdout %q, stderr %q, sent %v", code, stdout, stderr, f.writes())
	}
	if _, stderr, code := f.run(t, "network", "prune", "-f", "--filter", "label!=keep", "--filter", "until=24h"); code != 0 {
		t.Fatal(stderr)
	}
	if got := f.query.Get("filters"); got != `{"label!":{"keep":true},"until":{"24h":true}}` {
		t.Errorf("filters: %s", got)
	}
}

func TestNetworkNamesAreCompleted(t *testing.T) {
	f := newFakeServer(t)
	stdout, _, _ := f.run(t, "__complete", "network", "rm", "web")
	if stdout != "web10\nweb2\n" {
		t.Errorf("completion: %q", stdout)
	}
}

//go:build docker

package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// crowd is sample with more neighbours than go into one write.
func crowd() Want {
	w := sample()
	for i := range 3*batchSize + 1 {
		ip := netip.AddrFrom4([4]byte{10, 252, byte(100 + i/256), byte(i)})
		w.Neighbours = append(w.Neighbours, Neighbour{"shoal0", ip, [6]byte{2, 0x5a, 0, 1, byte(i / 256), byte(i)}})
	}
	return w
}

func yard(t *testing.T) *Links {
	t.Helper()
	inNamespace(t)
	run(t, "ip link add shoalb1001 type bridge")
	run(t, "ip link set shoalb1001 up")
	return newLinks(t)
}

func TestManyChangesAreAllMade(t *testing.T) {
	l := yard(t)
	if got, want := len(apply(t, l, crowd()).Repaired), stateOf(crowd()).size()+len(crowd().Sysctls); got < want {
		t.Errorf("%d changes told, of at least %d", got, want)
	}
	wantAudit(t, l, "after Apply", true)
	apply(t, l, sample())
	wantAudit(t, l, "after most of it has gone", true)
}

func TestWhatIsGoneAlreadyCanBeRemoved(t *testing.T) {
	l := yard(t)
	w := crowd()
	apply(t, l, w)
	for _, command := range []string{
		"ip neigh flush dev shoal0 nud permanent", "bridge fdb del 02:42:0a:00:01:0b dev shoalx1001 self", "bridge fdb del 02:42:0a:00:01:0b dev shoalx1001 master",
		"ip route del 10.252.2.0/24", "ip route flush table 9002", "ip addr del 10.252.1.254/32 dev shoal0", "ip addr del fd00:9::2/128 dev shoalb1001",
		"ip rule del priority 9002", "ip -6 rule del priority 26000",
	} {
		run(t, command)
	}
	w.Neighbours, w.Forwards, w.Addrs, w.Routes, w.Rules = nil, nil, nil, nil, nil
	apply(t, l, w)
	wantAudit(t, l, "after Apply", true)
}

func TestARefusedChangeIsNamedAndTheOthersAreCounted(t *testing.T) {
	l := yard(t)
	w := crowd()
	w.Routes = slices.Insert(w.Routes, 1, Route{Dst: netip.MustParsePrefix("10.252.9.9/24"), Link: "shoal0"}) // bits beyond the mask
	for _, what := range []string{"first", "second"} {
		r, err := l.Apply(w)
		if err == nil || !strings.Contains(err.Error(), "route 10.252.9.9/24") {
			t.Fatalf("%s Apply: %v", what, err)
		}
		if told := fmt.Sprint(r.Repaired); strings.Contains(told, "10.252.9.9") {
			t.Errorf("%s Apply says that it has made what the kernel refused: %s", what, told)
		}
		if made := len(r.Repaired); what == "first" && made < stateOf(sample()).size() {
			t.Errorf("%s Apply says that it has made %d changes", what, made)
		}
	}
	apply(t, l, crowd())
	wantAudit(t, l, "without the bad route", true)
}

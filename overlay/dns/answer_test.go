package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	asker  = netip.MustParseAddr("10.0.1.5")
	inside = netip.MustParseAddr("10.0.9.5") // on an internal network
)

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func many(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{10, 0, byte(2 + i/250), byte(1 + i%250)}))
	}
	return out
}

func sample() *Table {
	front := &Zone{
		Network: "front",
		Names: map[string][]netip.Addr{
			"web": addrs("10.0.1.2", "fd00:1::2"), "tasks.web": addrs("10.0.1.5", "10.0.1.6"),
			"many": many(1000), "idle": nil, "db": addrs("10.0.1.9"), "svc.shoal": nil, "web.svc.shoal": addrs("10.0.1.2"),
		},
		Reverse: map[netip.Addr]string{
			netip.MustParseAddr("10.0.1.2"): "web.front", netip.MustParseAddr("fd00:1::2"): "web.front",
		},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
	}
	back := &Zone{Network: "back", Names: map[string][]netip.Addr{"db": addrs("10.0.3.9"), "cache": addrs("10.0.3.3")}}
	closed := &Zone{Network: "closed", Names: map[string][]netip.Addr{"vault": addrs("10.0.9.9")}}
	return &Table{
		Clients: map[netip.Addr]*Client{
			asker:  {Zones: []*Zone{front, back}},
			inside: {Zones: []*Zone{closed}, NoForward: true},
		},
		Suffixes: []string{"svc.shoal"},
	}
}

func server(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(sample())
	return s
}

func packed(t testing.TB, m *miekg.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func question(name string, typ uint16) *miekg.Msg {
	return new(miekg.Msg).SetQuestion(miekg.Fqdn(name), typ)
}

// summary is an answer in a line: its code, its records sorted, and whose SOA
// is with it.
func summary(t testing.TB, reply []byte) string {
	t.Helper()
	var m miekg.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("answer %x: %v", reply, err)
	}
	var out []string
	for _, rr := range m.Answer {
		_, data, _ := strings.Cut(rr.String(), "\tIN\t")
		out = append(out, strings.ReplaceAll(data, "\t", " "))
	}
	slices.Sort(out)
	for _, rr := range m.Ns {
		out = append(out, "SOA of "+rr.Header().Name)
	}
	return strings.Join(append([]string{miekg.RcodeToString[m.Rcode]}, out...), "; ")
}

func TestNamesAreAnswered(t *testing.T) {
	s := server(t, Config{})
	for _, test := range []struct {
		from netip.Addr
		name string
		typ  uint16
		want string // "" : forwarded
	}{
		{asker, "web", miekg.TypeA, "NOERROR; A 10.0.1.2"},
		{asker, "WEB", miekg.TypeAAAA, "NOERROR; AAAA fd00:1::2"},
		{asker, "web", miekg.TypeANY, "NOERROR; A 10.0.1.2"},
		{asker, "tasks.web", miekg.TypeA, "NOERROR; A 10.0.1.5; A 10.0.1.6"},
		{asker, "web.front", miekg.TypeA, "NOERROR; A 10.0.1.2"},
		{asker, "cache.back", miekg.TypeA, "NOERROR; A 10.0.3.3"},
		{asker, "cache.front", miekg.TypeA, ""},
		{asker, "db", miekg.TypeA, "NOERROR; A 10.0.1.9"},
		{asker, "db.back", miekg.TypeA, "NOERROR; A 10.0.3.9"},
		// names without such records
		{asker, "tasks.web", miekg.TypeAAAA, "NOERROR; SOA of tasks.web."},
		{asker, "idle", miekg.TypeA, "NOERROR; SOA of idle."},
		{asker, "idle", miekg.TypeANY, "NOERROR; SOA of idle."},
		{asker, "web", miekg.TypeMX, "NOERROR; SOA of web."},
		{asker, "web", miekg.TypeHTTPS, "NOERROR; SOA of web."},
		{asker, "svc.shoal", miekg.TypeA, "NOERROR; SOA of svc.shoal."},
		// what is not ours, and what only could be
		{asker, "example.com", miekg.TypeA, ""},
		{asker, "printer", miekg.TypeA, ""},
		{asker, "front", miekg.TypeA, ""},
		{asker, "vault", miekg.TypeA, ""},
		{asker, "notweb.svc.shoalx", miekg.TypeA, ""},
		{asker, ".", miekg.TypeNS, ""},
		{asker, "gone.svc.shoal", miekg.TypeA, "NXDOMAIN; SOA of svc.shoal."},
		{asker, "web.7", miekg.TypeA, "NXDOMAIN; SOA of ."},
		// a client that must not be heard outside
		{inside, "vault", miekg.TypeA, "NOERROR; A 10.0.9.9"},
		{inside, "web", miekg.TypeA, "NXDOMAIN; SOA of ."},
		{inside, "example.com", miekg.TypeA, "NXDOMAIN; SOA of ."},
		{inside, "1.1.1.1.in-addr.arpa", miekg.TypePTR, "NXDOMAIN; SOA of ."},
		// strangers
		{netip.MustParseAddr("10.0.1.99"), "web", miekg.TypeA, "REFUSED"},
		{netip.MustParseAddr("10.0.1.99"), "example.com", miekg.TypeA, "REFUSED"},
		// addresses
		{asker, "2.1.0.10.in-addr.arpa", miekg.TypePTR, "NOERROR; PTR web.front."},
		{asker, "2.1.0.10.IN-ADDR.arpa", miekg.TypePTR, "NOERROR; PTR web.front."},
		{asker, "2.1.0.10.in-addr.arpa", miekg.TypeA, "NOERROR; SOA of 2.1.0.10.in-addr.arpa."},
		{asker, "77.1.0.10.in-addr.arpa", miekg.TypePTR, "NXDOMAIN; SOA of 1.0.10.in-addr.arpa."},
		{asker, "_x.2.1.0.10.in-addr.arpa", miekg.TypePTR, "NXDOMAIN; SOA of 2.1.0.10.in-addr.arpa."},
		{asker, "1.0.10.in-addr.arpa", miekg.TypeSOA, "NOERROR; SOA of 1.0.10.in-addr.arpa."},
		{asker, "0.10.in-addr.arpa", miekg.TypeSOA, ""},
		{asker, "4.3.2.1.in-addr.arpa", miekg.TypePTR, ""},
		{asker, "in-addr.arpa", miekg.TypeNS, ""},
		{asker, strings.TrimSuffix(must(miekg.ReverseAddr("fd00:1::2")), "."), miekg.TypePTR, "NOERROR; PTR web.front."},
		{asker, must(miekg.ReverseAddr("fd00:1::3")), miekg.TypePTR, "NXDOMAIN; SOA of " + strings.TrimPrefix(must(miekg.ReverseAddr("fd00:1::3")), "3.")},
		{asker, must(miekg.ReverseAddr("fd00:2::3")), miekg.TypePTR, ""},
		// never answered
		{asker, "web", miekg.TypeAXFR, "REFUSED"},
		{asker, "web", miekg.TypeOPT, "FORMERR"},
	} {
		reply, forward := s.answer(packed(t, question(test.name, test.typ)), test.from, false)
		got := ""
		if forward == nil {
			got = summary(t, reply)
		}
		if got != test.want {
			t.Errorf("%s asks for %s %s: %q, want %q", test.from, test.name, miekg.TypeToString[test.typ], got, test.want)
		}
	}
}

func must(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}

func TestAnswerKeepsWhatTheClientSent(t *testing.T) {
	ask := question("wEb.", miekg.TypeA)
	ask.CheckingDisabled = true
	ask.SetEdns0(4096, true)
	reply, _ := server(t, Config{}).answer(packed(t, ask), netip.MustParseAddr("::ffff:10.0.1.5"), false)
	var m miekg.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	if m.Id != ask.Id || !m.Response || !m.RecursionDesired || !m.RecursionAvailable || !m.CheckingDisabled || !m.Authoritative || m.AuthenticatedData {
		t.Errorf("header %+v", m.MsgHdr)
	}
	if diff := cmp.Diff(ask.Question, m.Question); diff != "" {
		t.Errorf("question (-want +got):\n%s", diff)
	}
	if len(m.Answer) != 1 || m.Answer[0].Header().Name != "wEb." || m.Answer[0].Header().Ttl != ttl {
		t.Errorf("answer %v, want one for wEb.", m.Answer)
	}
	opt := m.IsEdns0()
	if opt == nil || opt.UDPSize() != maxUDP || !opt.Do() || opt.Version() != 0 {
		t.Errorf("OPT %v", opt)
	}
}

func TestLongAnswersAreCutOverUDPAlone(t *testing.T) {
	s := server(t, Config{})
	for _, test := range []struct {
		edns   uint16
		stream bool
		size   int
		cut    bool
	}{
		{0, false, 512, true},
		{100, false, 512, true},
		{1000, false, 1000, true},
		{4096, false, maxUDP, true},
		{0, true, 65535, false},
		{4096, true, 65535, false},
	} {
		ask := question("many", miekg.TypeA)
		if test.edns != 0 {
			ask.SetEdns0(test.edns, false)
		}
		reply, _ := s.answer(packed(t, ask), asker, test.stream)
		var m miekg.Msg
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if len(reply) > test.size || m.Truncated != test.cut {
			t.Errorf("%+v: %d bytes, truncated %v", test, len(reply), m.Truncated)
		}
		if test.cut && len(m.Answer) < test.size/16-5 || !test.cut && len(m.Answer) != 1000 {
			t.Errorf("%+v: %d records", test, len(m.Answer))
		}
		if (m.IsEdns0() != nil) != (test.edns != 0) {
			t.Errorf("%+v: OPT %v", test, m.IsEdns0())
		}
	}
}

func TestAddressesTakeTurns(t *testing.T) {
	s := server(t, Config{})
	first := map[string]int{}
	for range 200 {
		reply, _ := s.answer(packed(t, question("tasks.web", miekg.TypeA)), asker, false)
		var m miekg.Msg
		if err := m.Unpack(reply); err != nil || len(m.Answer) != 2 {
			t.Fatalf("%v, %v", m, err)
		}
		first[m.Answer[0].(*miekg.A).A.String()]++
	}
	if len(first) != 2 || first["10.0.1.5"] < 50 || first["10.0.1.6"] < 50 {
		t.Errorf("first addresses %v, want each in about half of 200 answers", first)
	}
	if diff := cmp.Diff(addrs("10.0.1.5", "10.0.1.6"), sample().Clients[asker].Zones[0].Names["tasks.web"], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the table changed: %s", diff)
	}
}

func TestPacketsThatAreNoQuestion(t *testing.T) {
	s := server(t, Config{})
	with := func(change func(*miekg.Msg)) []byte {
		m := question("web", miekg.TypeA)
		m.Id = 7
		change(m)
		return packed(t, m)
	}
	opt := func(version uint8) *miekg.OPT {
		o := &miekg.OPT{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeOPT, Class: 1232}}
		o.SetVersion(version)
		return o
	}
	whole := with(func(*miekg.Msg) {})
	for name, test := range map[string]struct {
		packet []byte
		want   string
	}{
		"empty":         {nil, "nothing"},
		"short":         {whole[:11], "nothing"},
		"an answer":     {with(func(m *miekg.Msg) { m.Response = true }), "nothing"},
		"header alone":  {with(func(m *miekg.Msg) { m.Question = nil }), "FORMERR"},
		"cut":           {whole[:len(whole)-3], "FORMERR"},
		"two questions": {with(func(m *miekg.Msg) { m.Question = append(m.Question, m.Question[0]) }), "FORMERR"},
		"update":        {with(func(m *miekg.Msg) { m.Opcode = miekg.OpcodeUpdate }), "NOTIMP"},
		"notify":        {with(func(m *miekg.Msg) { m.Opcode = miekg.OpcodeNotify }), "NOTIMP"},
		"chaos":         {with(func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }), "REFUSED"},
		"EDNS 1":        {with(func(m *miekg.Msg) { m.Extra = []miekg.RR{opt(1)} }), "BADVERS"},
		"two OPT":       {with(func(m *miekg.Msg) { m.Extra = []miekg.RR{opt(0), opt(0)} }), "FORMERR"},
	} {
		reply, forward := s.answer(test.packet, asker, false)
		got := "nothing"
		if forward != nil {
			got = "forwarded"
		} else if reply != nil {
			got = summary(t, reply)
			if reply[1] != 7 {
				t.Errorf("%s: answer to id %d, want 7", name, reply[1])
			}
		}
		if got != test.want && (test.want != "BADVERS" || got != "BADSIG") { // one number, two names
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	s := server(f, Config{})
	for _, name := range []string{"web", "many", "example.com", "2.1.0.10.in-addr.arpa", "2.0.ip6.arpa", `a\.b`, "."} {
		for _, typ := range []uint16{miekg.TypeA, miekg.TypePTR, miekg.TypeANY} {
			m := question(name, typ)
			f.Add(packed(f, m), false)
			f.Add(packed(f, m.SetEdns0(1232, true)), true)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte, stream bool) {
		for _, from := range []netip.Addr{asker, inside, netip.MustParseAddr("192.0.2.1")} {
			reply, forward := s.answer(packet, from, stream)
			if forward != nil {
				if from != asker {
					t.Fatalf("%s had a question forwarded", from)
				}
				reply = s.failed(forward)
			}
			if reply == nil {
				continue
			}
			if !stream && len(reply) > maxUDP {
				t.Fatalf("%d bytes over UDP", len(reply))
			}
			var m miekg.Msg
			if err := m.Unpack(reply); err != nil {
				t.Fatalf("answer %x: %v", reply, err)
			}
			if reply[0] != packet[0] || reply[1] != packet[1] || !m.Response {
				t.Fatalf("answer %v to %x", m.MsgHdr, packet)
			}
		}
	})
}

func TestReversePrefix(t *testing.T) {
	for name, want := range map[string]string{
		"4.3.2.1.in-addr.arpa":   "1.2.3.4/32 ",
		"2.1.in-addr.arpa":       "1.2.0.0/16 ",
		"x.2.1.in-addr.arpa":     "1.2.0.0/16 x",
		"5.4.3.2.1.in-addr.arpa": "1.2.3.4/32 5",
		"256.1.in-addr.arpa":     "1.0.0.0/8 256",
		"01.1.in-addr.arpa":      "1.0.0.0/8 01",
		"1.0.d.f.ip6.arpa":       "fd01::/16 ",
		"g.d.f.ip6.arpa":         "fd00::/8 g",
		"11.d.f.ip6.arpa":        "fd00::/8 11",
	} {
		prefix, rest, ok := reversePrefix(name)
		if got := fmt.Sprintf("%s %s", prefix, rest); !ok || got != want {
			t.Errorf("%s: %q, %v; want %q", name, got, ok, want)
		}
	}
	if _, _, ok := reversePrefix("example.com"); ok {
		t.Error("example.com is a reverse name")
	}
}

func TestQuestionsAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := server(t, Config{Registerer: reg})
	for _, name := range []string{"web", "idle", "web.9"} {
		s.answer(packed(t, question(name, miekg.TypeA)), asker, false)
	}
	s.answer(packed(t, question("web", miekg.TypeA)), netip.MustParseAddr("192.0.2.1"), false)
	_, q := s.answer(packed(t, question("example.com", miekg.TypeA)), asker, false)
	s.failed(q)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				got[l.GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	want := map[string]float64{"answered": 1, "nodata": 1, "nxdomain": 1, "refused": 1, "failed": 1, "forwarded": 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// running serves the table on a loopback address, with these resolvers as the
// host's; 127.0.0.1 is a client.
func running(t testing.TB, table *Table, resolvers ...netip.AddrPort) (s *Server, at netip.AddrPort) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, resolvers...)
	s, err := New(Config{ResolvConf: conf})
	if err != nil {
		t.Fatal(err)
	}
	table.Clients[loopback] = table.Clients[asker]
	s.Set(table)
	if at, err = s.Listen(netip.MustParseAddr("127.0.0.53")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return s, at
}

func write(t testing.TB, conf string, resolvers ...netip.AddrPort) {
	t.Helper()
	text := "# resolvers of a test\nsearch example.com\n"
	for _, at := range resolvers {
		text += fmt.Sprintf("nameserver [%s]:%d\n", at.Addr(), at.Port())
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// resolver is a fake of somebody else's; it answers on UDP and TCP.
func resolver(t testing.TB, addr string, answer miekg.HandlerFunc) netip.AddrPort {
	t.Helper()
	k, err := open(netip.MustParseAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*miekg.Server{{PacketConn: k.udp}, {Listener: k.tcp}} {
		server.Handler = answer
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			server.Shutdown()
			<-done
		})
	}
	return k.at
}

// says answers every question for an address with this one, over TCP alone when
// it is to be cut.
func says(ip string, cut bool) miekg.HandlerFunc {
	return func(w miekg.ResponseWriter, r *miekg.Msg) {
		m := new(miekg.Msg).SetReply(r)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && cut {
			m.Truncated = true
		} else {
			m.Answer = []miekg.RR{&miekg.A{Hdr: miekg.RR_Header{Name: r.Question[0].Name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 60}, A: net.ParseIP(ip)}}
		}
		w.WriteMsg(m)
	}
}

func code(rcode int) miekg.HandlerFunc {
	return func(w miekg.ResponseWriter, r *miekg.Msg) { w.WriteMsg(new(miekg.Msg).SetRcode(r, rcode)) }
}

func ask(t testing.TB, network string, at netip.AddrPort, name string) string {
	t.Helper()
	client := miekg.Client{Net: network, Timeout: 10 * time.Second}
	m, _, err := client.ExchangeContext(t.Context(), question(name, miekg.TypeA), at.String())
	if err != nil {
		t.Fatalf("ask for %s over %s: %v", name, network, err)
	}
	got := summary(t, packed(t, m))
	if m.Truncated {
		got += "; cut"
	}
	return got
}

func TestServesOverUDPAndTCP(t *testing.T) {
	other := resolver(t, "127.0.0.2", says("192.0.2.1", false))
	_, at := running(t, sample(), other)
	for _, network := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"web": "NOERROR; A 10.0.1.2", "example.com": "NOERROR; A 192.0.2.1", "nobody.svc.shoal": "NXDOMAIN; SOA of svc.shoal.",
		} {
			if got := ask(t, network, at, name); got != want {
				t.Errorf("%s over %s: %q, want %q", name, network, got, want)
			}
		}
	}
	if got := ask(t, "udp", at, "many"); !strings.HasSuffix(got, "; cut") {
		t.Errorf("1,000 addresses over UDP are not cut: %q", got)
	}
	if got := ask(t, "tcp", at, "many"); strings.Count(got, "; A ") != 1000 {
		t.Errorf("%d addresses over TCP, want 1,000", strings.Count(got, "; A "))
	}
}

func TestStreamTakesSeveralQuestions(t *testing.T) {
	_, at := running(t, sample())
	conn, err := miekg.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range []string{"web", "db", "tasks.web"} {
		if err := conn.WriteMsg(question(name, miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if m, err := conn.ReadMsg(); err != nil || len(m.Answer) == 0 {
			t.Errorf("%v, %v", m, err)
		}
	}
}

func TestListenReplacesAnotherAddress(t *testing.T) {
	s, at := running(t, sample())
	if again, err := s.Listen(at.Addr()); err != nil || again != at {
		t.Errorf("the same address again: %v, %v; want %v", again, err, at)
	}
	next, err := s.Listen(netip.MustParseAddr("127.0.0.54"))
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "udp", next, "web"); got != "NOERROR; A 10.0.1.2" {
		t.Errorf("at the new address: %q", got)
	}
	if conn, err := net.Dial("tcp", at.String()); err == nil {
		conn.Close()
		t.Error("the old address still answers")
	}
	if _, err := s.Listen(netip.MustParseAddr("192.0.2.200")); err == nil {
		t.Error("listens on an address that is not here")
	}
	if got := ask(t, "tcp", next, "web"); got != "NOERROR; A 10.0.1.2" {
		t.Errorf("after a failed Listen: %q", got)
	}
}

func TestRunServesAgain(t *testing.T) {
	s := server(t, Config{})
	for range 2 {
		table := sample()
		table.Clients[loopback] = table.Clients[asker]
		s.Set(table)
		at, err := s.Listen(loopback)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		if got := ask(t, "udp", at, "web"); got != "NOERROR; A 10.0.1.2" {
			t.Error(got)
		}
		cancel()
		<-done
	}
}

func TestSetWhileAsked(t *testing.T) {
	s, at := running(t, sample())
	var g sync.WaitGroup
	defer g.Wait()
	stop := make(chan struct{})
	defer close(stop)
	g.Go(func() {
		for {
			table := sample()
			table.Clients[loopback] = table.Clients[asker]
			s.Set(table)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range 200 {
		if got := ask(t, "udp", at, "web"); got != "NOERROR; A 10.0.1.2" {
			t.Fatal(got)
		}
	}
}

func TestForwardsToWhoeverAnswers(t *testing.T) {
	var heard atomic.Int32
	silent := resolver(t, "127.0.0.2", func(miekg.ResponseWriter, *miekg.Msg) { heard.Add(1) })
	good := resolver(t, "127.0.0.3", says("192.0.2.1", false))
	sick := resolver(t, "127.0.0.4", code(miekg.RcodeServerFailure))
	none := resolver(t, "127.0.0.5", code(miekg.RcodeNameError))
	liar := resolver(t, "127.0.0.6", func(w miekg.ResponseWriter, r *miekg.Msg) {
		other := r.Copy()
		other.Question[0].Name = "elsewhere.example."
		w.WriteMsg(new(miekg.Msg).SetReply(other))
		other = r.Copy()
		other.Id++
		w.WriteMsg(new(miekg.Msg).SetReply(other))
		says("192.0.2.6", false)(w, r)
	})
	closed := netip.MustParseAddrPort("127.0.0.7:9")
	for name, test := range map[string]struct {
		resolvers []netip.AddrPort
		want      string
	}{
		"first":            {[]netip.AddrPort{good, sick}, "NOERROR; A 192.0.2.1"},
		"after a silent":   {[]netip.AddrPort{silent, good}, "NOERROR; A 192.0.2.1"},
		"after a sick":     {[]netip.AddrPort{sick, good}, "NOERROR; A 192.0.2.1"},
		"after a closed":   {[]netip.AddrPort{closed, good}, "NOERROR; A 192.0.2.1"},
		"no such name":     {[]netip.AddrPort{none, good}, "NXDOMAIN"},
		"all sick":         {[]netip.AddrPort{closed, sick}, "SERVFAIL"},
		"all closed":       {[]netip.AddrPort{closed}, "SERVFAIL"},
		"no resolver":      {nil, "SERVFAIL"},
		"ourselves":        {[]netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53")}, "SERVFAIL"},
		"forged and right": {[]netip.AddrPort{liar}, "NOERROR; A 192.0.2.6"},
	} {
		t.Run(name, func(t *testing.T) {
			_, at := running(t, sample(), test.resolvers...)
			for _, network := range []string{"udp", "tcp"} {
				if got := ask(t, network, at, "example.com"); got != test.want {
					t.Errorf("over %s: %q, want %q", network, got, test.want)
				}
			}
		})
	}
	if n := heard.Load(); n != 1 {
		t.Errorf("the silent resolver was asked %d times, want 1: then it comes last", n)
	}
}

func TestLongForeignAnswersComeOverTCP(t *testing.T) {
	other := resolver(t, "127.0.0.2", says("192.0.2.1", true))
	_, at := running(t, sample(), other)
	if got := ask(t, "udp", at, "example.com"); got != "NOERROR; cut" {
		t.Errorf("over UDP: %q", got)
	}
	if got := ask(t, "tcp", at, "example.com"); got != "NOERROR; A 192.0.2.1" {
		t.Errorf("over TCP: %q", got)
	}
}

func TestInternalClientsAreNotHeardOutside(t *testing.T) {
	var heard atomic.Int32
	other := resolver(t, "127.0.0.2", func(w miekg.ResponseWriter, r *miekg.Msg) {
		heard.Add(1)
		says("192.0.2.1", false)(w, r)
	})
	table := sample()
	table.Clients[asker] = table.Clients[inside]
	_, at := running(t, table, other)
	for i := range 1000 {
		if got := ask(t, "udp", at, fmt.Sprintf("secret%d.example.com", i)); got != "NXDOMAIN; SOA of ." {
			t.Fatal(got)
		}
	}
	if heard.Load() != 0 {
		t.Errorf("%d questions left this host", heard.Load())
	}
}

func TestClientsMayHaveTheirOwnResolvers(t *testing.T) {
	host := resolver(t, "127.0.0.2", says("192.0.2.1", false))
	own := resolver(t, "127.0.0.3", says("192.0.2.2", false))
	table := sample()
	table.Clients[asker].Upstreams = []netip.AddrPort{own}
	_, at := running(t, table, host)
	if got := ask(t, "udp", at, "example.com"); got != "NOERROR; A 192.0.2.2" {
		t.Error(got)
	}
}

func TestOldResolversAreForgotten(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	a, b := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:5353")
	r := &resolvConf{path: conf, log: server(t, Config{}).log}
	now := time.Now()
	servers := func(after time.Duration) string {
		now = now.Add(after)
		return fmt.Sprint(r.servers(now))
	}
	if got := servers(0); got != "[]" {
		t.Errorf("without a file: %s", got)
	}
	write(t, conf, a)
	if got := servers(rereadEvery); got != "[192.0.2.1:53]" {
		t.Errorf("with a file: %s", got)
	}
	write(t, conf, a, b)
	if got := servers(rereadEvery / 2); got != "[192.0.2.1:53]" {
		t.Errorf("half a second later: %s", got)
	}
	if got := servers(rereadEvery); got != "[192.0.2.1:53 192.0.2.2:5353]" {
		t.Errorf("after the change: %s", got)
	}
	os.Remove(conf)
	if got := servers(rereadEvery); got != "[192.0.2.1:53 192.0.2.2:5353]" {
		t.Errorf("without the file again: %s", got)
	}
}

func TestParseResolvConf(t *testing.T) {
	got := fmt.Sprint(parseResolvConf(`# comment
; nameserver 192.0.2.9
domain example.com
nameserver
# junk:
nameserver nonsense
nameserver	192.0.2.1 # the first
 nameserver fe80::1%eth0
options timeout:1
nameserver [2001:db8::1]:5353
nameserver 192.0.2.4`))
	if want := "[192.0.2.1:53 [fe80::1%eth0]:53 [2001:db8::1]:5353]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTooManyQuestionsFailAtOnce(t *testing.T) {
	s, at := running(t, sample(), netip.MustParseAddrPort("127.0.0.2:9"))
	for s.forward.enter() {
	}
	start := time.Now()
	for _, network := range []string{"udp", "tcp"} {
		if got := ask(t, network, at, "example.com"); got != "SERVFAIL" {
			t.Errorf("over %s: %q", network, got)
		}
	}
	if took := time.Since(start); took > tryTime {
		t.Errorf("it took %v", took)
	}
	if got := ask(t, "udp", at, "web"); got != "NOERROR; A 10.0.1.2" {
		t.Errorf("a name of ours: %q", got)
	}
	for range maxForwards {
		s.forward.exit()
	}
}

package dns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	miekg "github.com/miekg/dns"
)

// big is a zone of 10,000 names.
func big() *Table {
	z := &Zone{Network: "big", Names: map[string][]netip.Addr{}, Reverse: map[netip.Addr]string{}}
	for i := range 10_000 {
		name := fmt.Sprintf("service-%d", i)
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		z.Names[name], z.Reverse[addr] = []netip.Addr{addr}, name+".big"
	}
	return &Table{Clients: map[netip.Addr]*Client{asker: {Zones: []*Zone{z}}}}
}

// BenchmarkAnswer is what a question costs without its way through the kernel.
func BenchmarkAnswer(b *testing.B) {
	s := server(b, Config{})
	s.Set(big())
	packets := make([][]byte, 1000)
	for i := range packets {
		packets[i] = packed(b, question(fmt.Sprintf("service-%d", i*10), miekg.TypeA))
	}
	i := 0
	for b.Loop() {
		if reply, _ := s.answer(packets[i%len(packets)], asker, false); reply == nil {
			b.Fatal("no answer")
		}
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "q/s")
}

// BenchmarkSocket asks over UDP, 64 questions at a time; the client's work is
// in the figure too.
func BenchmarkSocket(b *testing.B) {
	table := big()
	_, at := running(b, table)
	conn, err := net.Dial("udp", at.String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	packet, buf := packed(b, question("service-77", miekg.TypeA)), make([]byte, 512)
	const window = 64
	for b.Loop() {
		for range window {
			if _, err := conn.Write(packet); err != nil {
				b.Fatal(err)
			}
		}
		for range window {
			if _, err := conn.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(window*b.N)/b.Elapsed().Seconds(), "q/s")
}

// BenchmarkSet is what a new table costs the server.
func BenchmarkSet(b *testing.B) {
	s, table := server(b, Config{}), big()
	for b.Loop() {
		s.Set(table)
	}
}

package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"

	miekg "github.com/miekg/dns"
)

const (
	// ttl is for how long, in seconds, an answer of ours may be kept: for so long
	// a client may still call a task that is withdrawn, or miss one that is new.
	// Asking again costs it microseconds.
	ttl = 1
	// maxUDP is the most that is sent in one datagram: what the DNS community
	// agreed on as never fragmented, and less than an overlay's MTU.
	maxUDP = 1232
	// headerSize is that of every message.
	headerSize = 12
)

// query is a question that a client of ours may ask.
type query struct {
	msg    miekg.Msg
	client *Client
	stream bool // TCP: an answer may have any size
}

func (q *query) question() miekg.Question { return q.msg.Question[0] }

// answer says what to send for a packet: nothing, the reply, or what a resolver
// makes of the query that is returned.
func (s *Server) answer(packet []byte, from netip.Addr, stream bool) (reply []byte, forward *query) {
	if len(packet) < headerSize || packet[2]&0x80 != 0 {
		return nil, nil // an answer to an answer is the start of a loop
	}
	q := &query{stream: stream}
	table := s.table.Load()
	q.client = table.Clients[from.Unmap().WithZone("")]
	rcode := q.parse(packet)
	if rcode != miekg.RcodeSuccess {
		s.metrics.refused.Inc()
		return q.fail(packet, rcode), nil
	}
	name := strings.TrimSuffix(lower(q.question().Name), ".")
	f := table.find(q.client, name)
	if f.verdict == foreign {
		if !q.client.NoForward {
			return nil, q
		}
		// not REFUSED: that makes a client ask elsewhere, and again
		f.verdict = missing
	}
	return s.local(q, f), nil
}

// parse reads a packet into q, and says why it is not answered.
func (q *query) parse(packet []byte) (rcode int) {
	if opcode := int(packet[2]>>3) & 0xf; opcode != miekg.OpcodeQuery {
		return miekg.RcodeNotImplemented
	}
	if err := q.msg.Unpack(packet); err != nil || len(q.msg.Question) != 1 {
		q.msg = miekg.Msg{} // it may be half full
		return miekg.RcodeFormatError
	}
	if q.client == nil {
		return miekg.RcodeRefused
	}
	opts := 0
	for _, rr := range q.msg.Extra {
		if opt, ok := rr.(*miekg.OPT); ok {
			opts++
			if opt.Version() != 0 {
				return miekg.RcodeBadVers
			}
		}
	}
	switch question := q.question(); {
	case opts > 1, question.Qtype == miekg.TypeOPT, question.Qtype == miekg.TypeNone:
		return miekg.RcodeFormatError
	case question.Qclass != miekg.ClassINET, question.Qtype == miekg.TypeAXFR, question.Qtype == miekg.TypeIXFR:
		return miekg.RcodeRefused
	}
	return miekg.RcodeSuccess
}

// local is the answer to a name of ours.
func (s *Server) local(q *query, f found) []byte {
	m := q.reply(miekg.RcodeSuccess)
	m.Authoritative = true
	if f.verdict == missing {
		m.Rcode = miekg.RcodeNameError
		m.Ns = []miekg.RR{soa(f.apex)}
		s.metrics.nxdomain.Inc()
		return q.pack(m)
	}
	m.Answer = q.records(f)
	if len(m.Answer) > 0 {
		s.metrics.answered.Inc()
		return q.pack(m)
	}
	m.Ns = []miekg.RR{soa(q.question().Name)}
	s.metrics.nodata.Inc()
	return q.pack(m)
}

// records are those of a name that has the type that was asked for. ANY gets
// one kind, the least that is allowed (RFC 8482).
func (q *query) records(f found) []miekg.RR {
	question := q.question()
	want := question.Qtype
	if f.ptr != "" {
		if want != miekg.TypePTR && want != miekg.TypeANY {
			return nil
		}
		return []miekg.RR{&miekg.PTR{Hdr: header(question.Name, miekg.TypePTR), Ptr: miekg.Fqdn(f.ptr)}}
	}
	if want == miekg.TypeANY {
		want = miekg.TypeAAAA
		for _, a := range f.addrs {
			if a.Is4() {
				want = miekg.TypeA
			}
		}
	}
	if want != miekg.TypeA && want != miekg.TypeAAAA {
		return nil
	}
	return q.addresses(f.addrs, want)
}

// addresses are the records of one family, in an order that chance gives. Over
// UDP no more are made than one above what can fit: the client sees that the
// answer is cut, and asks over TCP.
func (q *query) addresses(addrs []netip.Addr, want uint16) []miekg.RR {
	var few [8]netip.Addr // most names have no more
	picked := few[:0]
	for _, a := range addrs {
		if a.Is4() == (want == miekg.TypeA) {
			picked = append(picked, a)
		}
	}
	n := len(picked)
	if !q.stream {
		n = min(n, q.size()/16+1) // a record has 16 bytes at least
	}
	if n == 0 {
		return nil
	}
	rrs := make([]miekg.RR, 0, n)
	for i := range n {
		j := i + rand.IntN(len(picked)-i)
		picked[i], picked[j] = picked[j], picked[i]
		hdr := header(q.question().Name, want)
		if want == miekg.TypeA {
			rrs = append(rrs, &miekg.A{Hdr: hdr, A: picked[i].AsSlice()})
		} else {
			rrs = append(rrs, &miekg.AAAA{Hdr: hdr, AAAA: picked[i].AsSlice()})
		}
	}
	return rrs
}

// header takes the name as it was asked, for clients that put bits of their own
// into the case of its letters.
func header(name string, typ uint16) miekg.RR_Header {
	return miekg.RR_Header{Name: name, Rrtype: typ, Class: miekg.ClassINET, Ttl: ttl}
}

// soa is what makes a negative answer one that may be kept, for ttl.
func soa(apex string) miekg.RR {
	return &miekg.SOA{
		Hdr: header(miekg.Fqdn(apex), miekg.TypeSOA), Ns: "ns.shoal.", Mbox: "hostmaster.shoal.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

// reply is an empty answer to q.
func (q *query) reply(rcode int) *miekg.Msg {
	m := &miekg.Msg{Question: q.msg.Question, Compress: true}
	m.Id, m.Opcode, m.Rcode = q.msg.Id, q.msg.Opcode, rcode
	m.Response, m.RecursionDesired, m.CheckingDisabled = true, q.msg.RecursionDesired, q.msg.CheckingDisabled
	m.RecursionAvailable = q.client != nil && !q.client.NoForward
	if opt := q.msg.IsEdns0(); opt != nil {
		ours := &miekg.OPT{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeOPT}}
		ours.SetUDPSize(maxUDP)
		if opt.Do() {
			ours.SetDo()
		}
		m.Extra = []miekg.RR{ours}
	}
	return m
}

// room is how long a datagram the client says that it can take.
func (q *query) room() int {
	if opt := q.msg.IsEdns0(); opt != nil {
		return max(int(opt.UDPSize()), miekg.MinMsgSize)
	}
	return miekg.MinMsgSize
}

// size is how long an answer of ours to q may be.
func (q *query) size() int {
	if q.stream {
		return miekg.MaxMsgSize
	}
	return min(q.room(), maxUDP)
}

// pack makes bytes of an answer, cut to what fits.
func (q *query) pack(m *miekg.Msg) []byte {
	m.Truncate(q.size())
	b, err := m.Pack()
	if err != nil {
		return nil // the question came from bytes and has no records that could fail
	}
	return b
}

// fail is an answer that is only a code. A packet that was not understood is
// answered by its id alone.
func (q *query) fail(packet []byte, rcode int) []byte {
	if len(q.msg.Question) == 1 {
		return q.pack(q.reply(rcode))
	}
	b := make([]byte, headerSize)
	copy(b, packet[:2])
	b[2] = 0x80 | packet[2]&0x79 // an answer, with opcode and "recursion desired" as they were
	b[3] = byte(rcode)
	return b
}

// relay turns a resolver's answer into one for q.
func (q *query) relay(reply []byte) []byte {
	if !q.stream && len(reply) > q.room() { // the resolver was told how much it may send
		m := q.reply(miekg.RcodeSuccess)
		m.Truncated = true
		return q.pack(m)
	}
	binary.BigEndian.PutUint16(reply, q.msg.Id)
	return reply
}

// lower is strings.ToLower for the letters that DNS compares without case.
func lower(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			b := []byte(name)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return name
}

package load

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxFailures and maxNames bound what a report holds; counts go on.
	maxFailures = 1000
	maxNames    = 10_000
)

// Report is what became of all requests.
type Report struct {
	Sent, Failed int
	Resets       int // of those that failed: the other side reset the connection
	Retried      int // sent again by net/http, see the package comment
	Opened       int // requests on a new connection
	Reused       int // and on one that was kept

	Failures []Failure // the first thousand, in order

	// Clients counts the addresses that the sample program saw requests come
	// from, Hosts the containers that answered, Versions theirs.
	Clients  map[netip.Addr]int
	Hosts    map[string]int
	Versions map[string]int

	Asked   time.Duration // how long requests were sent
	Latency Latency       // of those that succeeded, from when they were due
}

// Latency is within 6 % of what was measured; Max is exact.
type Latency struct{ P50, P90, P99, P999, Max time.Duration }

// Failure is a request without a good answer.
type Failure struct {
	At   time.Time // when it failed
	Took time.Duration
	URL  string
	From string // this side's address; "": there was no connection
	Kept bool   // it was to use a kept connection
	Err  string
}

// Rate is how many requests were sent a second.
func (r Report) Rate() float64 { return float64(r.Sent) / max(r.Asked.Seconds(), 1e-9) }

func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v (%.0f/s, %d on new connections, %d on kept ones), %d failed, %d resets, %d sent again; latency p50 %v, p90 %v, p99 %v, p99.9 %v, max %v; clients %v",
		r.Sent, r.Asked.Round(time.Millisecond), r.Rate(), r.Opened, r.Reused, r.Failed, r.Resets, r.Retried,
		r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.P999, r.Latency.Max, r.Clients)
	for _, f := range r.Failures[:min(len(r.Failures), 10)] {
		fmt.Fprintf(&b, "\n%s %s from %s (kept %v, after %v): %s", f.At.Format("15:04:05.000"), f.URL, f.From, f.Kept, f.Took.Round(time.Millisecond), f.Err)
	}
	return b.String()
}

// outcome is what became of one request.
type outcome struct {
	body        []byte
	err         error
	took        time.Duration
	connections int
	reused      bool
	from        string
}

// book is the report while it is written.
type book struct {
	mu   sync.Mutex
	r    Report
	took histogram
}

func newBook() *book {
	return &book{r: Report{Clients: map[netip.Addr]int{}, Hosts: map[string]int{}, Versions: map[string]int{}}}
}

func (b *book) write(j job, o outcome) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.r.Sent++
	if o.connections > 1 {
		b.r.Retried++
	}
	switch {
	case o.connections == 0: // it got none
	case o.reused:
		b.r.Reused++
	default:
		b.r.Opened++
	}
	if o.err == nil {
		b.took.add(o.took)
		b.answered(string(o.body))
		return
	}
	b.r.Failed++
	if errors.Is(o.err, syscall.ECONNRESET) {
		b.r.Resets++
	}
	if len(b.r.Failures) < maxFailures {
		b.r.Failures = append(b.r.Failures, Failure{At: now, Took: o.took, URL: j.url, From: o.from, Kept: j.kept, Err: o.err.Error()})
	}
}

// answered reads what the sample program says: "hello from HOST version V to
// ADDR:PORT". Other answers count and tell nothing.
func (b *book) answered(body string) {
	words := strings.Fields(body)
	if len(words) != 7 || words[0] != "hello" {
		return
	}
	if client, err := netip.ParseAddrPort(words[6]); err == nil {
		count(b.r.Clients, client.Addr().Unmap())
	}
	count(b.r.Hosts, words[2])
	count(b.r.Versions, words[4])
}

func count[K comparable](m map[K]int, key K) {
	if _, known := m[key]; known || len(m) < maxNames {
		m[key]++
	}
}

func (b *book) report(asked time.Duration) Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.r.Asked = asked
	b.r.Latency = Latency{b.took.quantile(.5), b.took.quantile(.9), b.took.quantile(.99), b.took.quantile(.999), b.took.max}
	slices.SortStableFunc(b.r.Failures, func(x, y Failure) int { return x.At.Compare(y.At) })
	return b.r
}

// histogram counts durations: 16 steps for each doubling, from a microsecond up.
type histogram struct {
	counts [64 * 16]int
	n      int
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.counts[step(d)]++
	h.n++
	h.max = max(h.max, d)
}

func step(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	shift := max(bits.Len64(us)-5, 0)
	return shift*16 + int(us>>shift)
}

// top is the longest duration of a step.
func top(i int) time.Duration {
	shift := max(i/16-1, 0)
	return time.Duration((uint64(i-shift*16)+1)<<shift) * time.Microsecond
}

func (h *histogram) quantile(q float64) time.Duration {
	rank := int(q * float64(h.n))
	for i, n := range h.counts {
		if rank -= n; n > 0 && rank < 0 {
			return min(top(i), h.max)
		}
	}
	return h.max
}

package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site answers like the sample program, unless h says otherwise.
func site(t testing.TB, h http.HandlerFunc) (url string) {
	t.Helper()
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello from host1 version 2 to %s\n", r.RemoteAddr)
		}
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// few runs about so many requests.
func few(t testing.TB, requests int, cfg Config) Report {
	t.Helper()
	cfg.Rate, cfg.Duration = 1000, time.Duration(requests)*time.Millisecond
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Sent == 0 {
		t.Fatal("no request was sent")
	}
	return report
}

// memory is a network of one server, inside of a bubble.
type memory chan net.Conn

func (m memory) Accept() (net.Conn, error) {
	conn, ok := <-m
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (m memory) Close() error   { close(m); return nil }
func (m memory) Addr() net.Addr { return &net.TCPAddr{} }

func (m memory) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	m <- there
	return here, nil
}

// bubble runs test with a server whose clock is virtual.
func bubble(t *testing.T, h http.HandlerFunc, test func(t *testing.T, m memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := make(memory)
		server := &http.Server{Handler: h}
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.Serve(m)
		}()
		test(t, m)
		server.Close()
		<-done
	})
}

func TestHoldsTheRateAndTheShare(t *testing.T) {
	var hosts [2]atomic.Int32
	bubble(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "b" {
			hosts[1].Add(1)
		} else {
			hosts[0].Add(1)
		}
		time.Sleep(4 * time.Millisecond)
		fmt.Fprintf(w, "hello from %s version 2 to 192.0.2.1:80\n", r.Host)
	}, func(t *testing.T, m memory) {
		report, err := Run(t.Context(), Config{URLs: []string{"http://a/", "http://b/"}, Rate: 500, KeepAlive: .6, Duration: 2 * time.Second, DialContext: m.dial})
		if err != nil {
			t.Fatal(err)
		}
		if report.Sent < 999 || report.Sent > 1001 || report.Failed != 0 || report.Retried != 0 {
			t.Errorf("want 1,000 requests without failure: %v", report)
		}
		if report.Opened+report.Reused != report.Sent || report.Reused < 580 || report.Reused > 600 {
			t.Errorf("want 60 %% on kept connections: %v", report)
		}
		if a, b := hosts[0].Load(), hosts[1].Load(); a < 499 || b < 499 || report.Hosts["a"] != int(a) || report.Hosts["b"] != int(b) {
			t.Errorf("%d and %d requests, want half at each: %v", a, b, report.Hosts)
		}
		if n := report.Sent; report.Clients[netip.MustParseAddr("192.0.2.1")] != n || report.Versions["2"] != n {
			t.Errorf("seen by the server: %v %v", report.Clients, report.Versions)
		}
		if l := report.Latency; l.P50 < 4*time.Millisecond || l.Max > 5*time.Millisecond {
			t.Errorf("latency %+v, want 4 ms", l)
		}
	})
}

func TestLateRequestsCountFromWhenTheyWereDue(t *testing.T) {
	var n atomic.Int32
	bubble(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 101 {
			time.Sleep(400 * time.Millisecond) // a server that stands still
		}
	}, func(t *testing.T, m memory) {
		report, err := Run(t.Context(), Config{URLs: []string{"http://a/"}, Rate: 1000, Duration: time.Second, InFlight: 1, DialContext: m.dial})
		if err != nil {
			t.Fatal(err)
		}
		// of 1,000 requests those due in these 400 ms were late, by 200 ms in the mean
		if l := report.Latency; report.Sent < 999 || l.Max != 400*time.Millisecond || l.P50 > time.Millisecond || l.P90 < 280*time.Millisecond || l.P90 > 320*time.Millisecond {
			t.Errorf("%v", report)
		}
	})
}

func TestSourceIsWhatTheServerSees(t *testing.T) {
	url := site(t, nil)
	source := netip.MustParseAddr("127.0.0.9")
	report := few(t, 20, Config{URLs: []string{url}, KeepAlive: .5, Source: source})
	if report.Failed != 0 || report.Clients[source] != report.Sent || report.Hosts["host1"] != report.Sent {
		t.Errorf("%v", report)
	}
}

func TestFailuresAreToldWithTheirReason(t *testing.T) {
	var n atomic.Int32
	url := site(t, func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			http.Error(w, "sick", http.StatusServiceUnavailable)
		case 1:
			reset(w)
		case 2:
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "cut")
		default:
			fmt.Fprint(w, "fine")
		}
	})
	report := few(t, 40, Config{URLs: []string{url}, InFlight: 1})
	quarter := report.Sent / 4
	if report.Failed < 3*quarter || report.Resets < quarter || len(report.Failures) != report.Failed {
		t.Errorf("want three quarters failed, one quarter reset: %v", report)
	}
	text := report.String()
	for _, want := range []string{"503 Service Unavailable", "connection reset by peer", "unexpected EOF", url} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
}

func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func TestNobodyThere(t *testing.T) {
	report := few(t, 10, Config{URLs: []string{"http://127.0.0.1:1/"}, KeepAlive: .5})
	if report.Failed != report.Sent || report.Opened+report.Reused != 0 || !strings.Contains(report.Failures[0].Err, "connection refused") {
		t.Errorf("%v", report)
	}
}

// TestRetriesOfNetHTTPAreSeen has a server that resets every kept connection
// under its second request.
func TestRetriesOfNetHTTPAreSeen(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	url := site(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		again := seen[r.RemoteAddr]
		seen[r.RemoteAddr] = true
		mu.Unlock()
		if again {
			reset(w)
			return
		}
		fmt.Fprint(w, "fine")
	})
	report := few(t, 30, Config{URLs: []string{url}, KeepAlive: 1, InFlight: 1})
	if report.Failed != 0 || report.Retried < report.Sent/2-1 {
		t.Errorf("want every second request sent again, and none failed: %v", report)
	}
	report = few(t, 30, Config{URLs: []string{url}, KeepAlive: 1, InFlight: 1, NoRetry: true})
	if report.Failed != report.Retried || report.Retried < report.Sent/2-1 {
		t.Errorf("want every second request failed: %v", report)
	}
	report = few(t, 30, Config{URLs: []string{url}, NoRetry: true})
	if report.Failed != 0 || report.Retried != 0 {
		t.Errorf("want none on new connections: %v", report)
	}
}

func TestEndOfContextFailsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered, leave := make(chan struct{}), make(chan struct{})
	url := site(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case entered <- struct{}{}:
		case <-leave:
		}
		<-leave
	})
	done := make(chan Report, 1)
	go func() {
		report, err := Run(ctx, Config{URLs: []string{url}, Rate: 1000, InFlight: 2})
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	<-entered
	<-entered
	cancel()
	close(leave)
	if report := <-done; report.Sent < 2 || report.Sent > 3 || report.Failed != 0 {
		t.Errorf("%v", report)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{{}, {URLs: []string{"http://x/"}}, {Rate: 1}, {URLs: []string{"http://x/"}, Rate: 1, KeepAlive: 2}} {
		if _, err := Run(t.Context(), cfg); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 100_000 {
		h.add(time.Duration(i+1) * 10 * time.Microsecond) // up to a second
	}
	for q, want := range map[float64]float64{.5: .5, .9: .9, .99: .99, .001: .001} {
		if got := h.quantile(q).Seconds(); math.Abs(got/want-1) > .07 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if h.max != time.Second || h.quantile(1) != time.Second {
		t.Errorf("max %v, quantile 1 %v", h.max, h.quantile(1))
	}
	var none histogram
	if none.quantile(.5) != 0 {
		t.Error("of nothing, half took time")
	}
	for _, d := range []time.Duration{-1, 0, math.MaxInt64} {
		h.add(d)
	}
}

// BenchmarkRate is what 2,000 requests a second cost, server included.
func BenchmarkRate(b *testing.B) {
	url := site(b, nil)
	for b.Loop() {
		report, err := Run(b.Context(), Config{URLs: []string{url}, Rate: 2000, KeepAlive: .5, Duration: time.Second})
		if err != nil || report.Failed != 0 {
			b.Fatal(report, err)
		}
		b.ReportMetric(report.Rate(), "req/s")
		b.ReportMetric(float64(report.Latency.P99.Microseconds()), "p99-µs")
	}
}

// Package load is a client that asks for pages at a steady rate and writes down
// every one that it does not get.
//
// The rate does not follow the server: a request is due at its time whatever
// became of those before it, and its latency counts from then, so a server that
// stands still for a second costs all the requests of that second.
//
// A request on a new connection is sent once. One on a kept connection that the
// server closes before it answers is sent again by net/http, as any client
// does, because a server may close what is idle at any time: Report.Retried
// counts these, and Config.NoRetry makes failures of them.
package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Config is what to ask for. Zero values take the default named.
type Config struct {
	URLs     []string      // required; asked in turn
	Rate     float64       // required: requests per second, to all URLs together
	Duration time.Duration // until ctx ends
	// KeepAlive is the share of requests on kept connections, 0 to 1; each of
	// the others opens one of its own.
	KeepAlive float64
	NoRetry   bool          // a request that net/http had to send again has failed
	Timeout   time.Duration // 5 s: of one request
	InFlight  int           // 256: requests at once; beyond that they are late
	Source    netip.Addr    // any: the address of this side
	// DialContext is net.Dialer's, from Source.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (c Config) withDefaults() (Config, error) {
	if len(c.URLs) == 0 || c.Rate <= 0 || c.KeepAlive < 0 || c.KeepAlive > 1 {
		return c, fmt.Errorf("load needs URLs, a rate above 0 and a share of kept connections from 0 to 1: %w", errdefs.ErrInvalidArgument)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.InFlight == 0 {
		c.InFlight = 256
	}
	if c.DialContext == nil {
		d := net.Dialer{Timeout: c.Timeout}
		if c.Source.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Source, 0))
		}
		c.DialContext = d.DialContext
	}
	return c, nil
}

// tick is how often the clock is looked at: requests are at most so late.
const tick = time.Millisecond

// maxBody is how much of an answer is read.
const maxBody = 64 << 10

// job is a request that is due.
type job struct {
	due  time.Time
	url  string
	kept bool
}

// Run asks until Duration is over or ctx ends, then waits for what is under
// way, at most Timeout. An end of ctx is no error.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Duration)
		defer cancel()
	}
	r := &runner{cfg: cfg, book: newBook(), kept: transport(cfg, true), fresh: transport(cfg, false)}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range cfg.InFlight {
		workers.Go(func() {
			for j := range jobs {
				r.do(context.WithoutCancel(ctx), j)
			}
		})
	}
	start := time.Now()
	pace(ctx, cfg, start, jobs)
	close(jobs)
	asked := time.Since(start)
	workers.Wait()
	r.kept.CloseIdleConnections()
	return r.book.report(asked), nil
}

func transport(cfg Config, keep bool) *http.Transport {
	return &http.Transport{DialContext: cfg.DialContext, DisableKeepAlives: !keep, MaxIdleConnsPerHost: cfg.InFlight, DisableCompression: true}
}

// pace hands out requests as they become due.
func pace(ctx context.Context, cfg Config, start time.Time, jobs chan<- job) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	urls := map[bool]int{} // a turn each, so that no URL gets one kind alone
	for n := 0; ctx.Err() == nil; {
		for due := int(time.Since(start).Seconds()*cfg.Rate) + 1; n < due; n++ {
			kept := int(float64(n+1)*cfg.KeepAlive) > int(float64(n)*cfg.KeepAlive)
			j := job{
				due: start.Add(time.Duration(float64(n) / cfg.Rate * float64(time.Second))),
				url: cfg.URLs[urls[kept]%len(cfg.URLs)], kept: kept,
			}
			urls[kept]++
			select {
			case jobs <- j:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

type runner struct {
	cfg         Config
	book        *book
	kept, fresh *http.Transport
}

// do makes one request and writes down what became of it.
func (r *runner) do(ctx context.Context, j job) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	var a attempt
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.got})
	body, err := r.fetch(ctx, j)
	connections, reused, from := a.seen()
	if err == nil && connections > 1 && r.cfg.NoRetry {
		err = fmt.Errorf("kept connection was closed under the request, which was sent again: %w", errdefs.ErrUnavailable)
	}
	r.book.write(j, outcome{body: body, err: err, took: time.Since(j.due), connections: connections, reused: reused, from: from})
}

func (r *runner) fetch(ctx context.Context, j job) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, err
	}
	t := r.fresh
	if j.kept {
		t = r.kept
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("answer %s: %w", resp.Status, errdefs.ErrUnavailable)
	}
	return body, nil
}

// attempt counts the connections that one request was given: net/http calls it
// from goroutines of its own.
type attempt struct {
	mu          sync.Mutex
	connections int
	reused      bool   // the last one
	from        string // its address of this side
}

func (a *attempt) got(info httptrace.GotConnInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connections++
	a.reused, a.from = info.Reused, info.Conn.LocalAddr().String()
}

func (a *attempt) seen() (connections int, reused bool, from string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.connections, a.reused, a.from
}

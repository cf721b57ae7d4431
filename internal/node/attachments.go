package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"shoal/internal/backoff"
	"shoal/internal/id"
	"shoal/internal/pki"
	"shoal/manager"
	"shoal/manager/api"
	"shoal/manager/relay"
)

// How often the places of this node's containers are looked at while it has
// any, and how long one may be without a container that was never seen: longer
// than a container takes to be made.
const (
	attachmentsEvery = 30 * time.Second
	attachmentGrace  = time.Minute
)

// attachments are the places that containers of this node, which no service
// has, have on cluster networks. A place is given back when its container is
// gone: what is there is compared with what there should be, so that neither
// a restart nor a lost answer leaves one behind.
type attachments struct {
	// call asks a manager; into is nil if no answer is wanted.
	call   func(ctx context.Context, path string, body, into any) error
	engine *engineProxy
	log    *slog.Logger
	kicked chan struct{}

	mu     sync.Mutex
	active bool            // there may be places
	making map[string]bool // ids whose container is being made
	memory leases
}

func newAttachments(call func(ctx context.Context, path string, body, into any) error, engine *engineProxy, log *slog.Logger) *attachments {
	return &attachments{
		call: call, engine: engine, log: log, kicked: make(chan struct{}, 1), active: true,
		making: map[string]bool{}, memory: leases{seen: map[string]bool{}, missing: map[string]time.Time{}},
	}
}

// attach asks for a place. done must be called once its container is there, or
// will not be.
func (a *attachments) attach(ctx context.Context, r api.AttachRequest) (at api.Attachment, done func(), err error) {
	// Active before and after: a look at the places may come in between.
	a.note(func() { a.active = true })
	if err := a.call(ctx, manager.PathAttach, r, &at); err != nil {
		return at, nil, err
	}
	a.note(func() { a.active, a.making[at.ID] = true, true })
	return at, func() { a.note(func() { delete(a.making, at.ID) }) }, nil
}

// release gives a place back; if nobody can be told now, a later look does it.
func (a *attachments) release(ctx context.Context, attachmentID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := a.call(ctx, manager.PathDetach, manager.Detach{ID: attachmentID}, nil)
	if err != nil && !errdefs.IsNotFound(err) {
		a.log.Debug("place on a network not given back yet", "attachment", attachmentID, "error", err)
	}
}

func (a *attachments) note(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// kick makes Run look at once.
func (a *attachments) kick() {
	select {
	case a.kicked <- struct{}{}:
	default: // it will
	}
}

// Run gives places back whose containers are gone, until ctx ends.
func (a *attachments) Run(ctx context.Context) error {
	tick := time.NewTicker(attachmentsEvery)
	defer tick.Stop()
	for {
		var active bool
		a.note(func() { active = a.active })
		if active {
			if err := a.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
				a.log.Debug("places on networks not compared", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-a.kicked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Watch kicks when the engine removes a container, or takes one off a network.
func (a *attachments) Watch(ctx context.Context) error {
	const query = `filters={"type":["container","network"],"event":["destroy","disconnect"]}`
	wait := backoff.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	for {
		began := time.Now()
		err := a.engine.events(ctx, query, func(any) error { a.kick(); return nil })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		a.log.Debug("events of the engine ended", "error", err)
		a.kick() // what happened meanwhile was not heard
		if err := wait.Wait(ctx); err != nil {
			return err
		}
	}
}

// look compares once.
func (a *attachments) look(ctx context.Context, now time.Time) error {
	var list []api.Attachment
	if err := a.call(ctx, manager.PathAttachments, struct{}{}, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		a.note(func() { a.active = len(a.making) > 0 })
		return nil
	}
	taken, err := a.containerAddrs(ctx)
	if err != nil {
		return err
	}
	var over []string
	a.note(func() {
		making := a.making
		list = slices.DeleteFunc(list, func(at api.Attachment) bool { return making[at.ID] })
		over = a.memory.over(list, taken, now)
	})
	for _, id := range over {
		a.release(ctx, id)
	}
	return nil
}

// containerAddrs are the addresses that containers of this engine have, or will
// have when they are started.
func (a *attachments) containerAddrs(ctx context.Context) (map[netip.Addr]bool, error) {
	var list []container.Summary
	if err := a.engine.get(ctx, "/containers/json?all=1", &list); err != nil {
		return nil, err
	}
	taken := map[netip.Addr]bool{}
	for _, c := range list {
		if c.NetworkSettings == nil {
			continue
		}
		for _, e := range c.NetworkSettings.Networks {
			if e == nil {
				continue
			}
			texts := []string{e.IPAddress, e.GlobalIPv6Address}
			if e.IPAMConfig != nil {
				texts = append(texts, e.IPAMConfig.IPv4Address, e.IPAMConfig.IPv6Address)
			}
			for _, text := range texts {
				if addr, err := netip.ParseAddr(text); err == nil {
					taken[addr] = true
				}
			}
		}
	}
	return taken, nil
}

// leases is what is remembered of places between two looks.
type leases struct {
	seen    map[string]bool      // a container was there
	missing map[string]time.Time // since when none is
}

// over returns the places to give back: those whose container was there and is
// not any more, and those without one for long.
func (l *leases) over(list []api.Attachment, taken map[netip.Addr]bool, now time.Time) (ids []string) {
	known := map[string]bool{}
	for _, at := range list {
		known[at.ID] = true
		there := slices.ContainsFunc(at.Addrs, func(p netip.Prefix) bool { return taken[p.Addr()] })
		since, missed := l.missing[at.ID]
		switch {
		case there:
			l.seen[at.ID] = true
			delete(l.missing, at.ID)
		case l.seen[at.ID] || missed && now.Sub(since) >= attachmentGrace:
			ids = append(ids, at.ID)
		case !missed:
			l.missing[at.ID] = now
		}
	}
	for id := range l.seen {
		if !known[id] {
			delete(l.seen, id)
		}
	}
	for id := range l.missing {
		if !known[id] {
			delete(l.missing, id)
		}
	}
	return ids
}

// rpc asks one manager after the other, this node's own first. The id makes the
// request one that happens once, whoever of them hears of it.
func (m *member) rpc(ctx context.Context, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	managers := m.managers()
	self := m.record.Load().NodeID
	slices.SortStableFunc(managers, func(a, b pki.Manager) int {
		return cmp.Compare(rankOf(a.NodeID, self), rankOf(b.NodeID, self))
	})
	transport := manager.NewTransport(m.dial)
	defer transport.CloseIdleConnections()
	request := id.New()
	last := errors.New("no manager is known")
	for _, peer := range managers {
		status, answer, err := post(ctx, transport, "https://"+peer.Addr+path, request, data)
		if err == nil && status < http.StatusMultipleChoices {
			if into == nil {
				return nil
			}
			return json.Unmarshal(answer, into)
		}
		if err == nil && status != http.StatusServiceUnavailable {
			return relay.Refusal(status, answer)
		}
		if last = err; err == nil {
			last = relay.Refusal(status, answer)
		}
	}
	return unavailable("no manager could be asked for a place on the network: %v", last)
}

func rankOf(nodeID, self string) int {
	if nodeID == self {
		return 0
	}
	return 1
}

func post(ctx context.Context, t *http.Transport, url, request string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(api.RequestHeader, request)
	response, err := t.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, 16<<20)) // far above what one node has
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return response.StatusCode, answer, nil
}

package dispatcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/backoff"
)

// maxFacts is how many descriptions go to the leader at a time: a description
// may have some kilobytes.
const maxFacts = 500

// outbox holds what the leader must hear of nodes beside their signs of life,
// until it has heard it.
type outbox struct {
	wake chan struct{} // 1

	mu        sync.Mutex
	opened    []*opening
	gone      []Gone
	described map[string]swarm.NodeDescription // by node, the newest
	applied   map[string]Applied               // by node, the highest of its newest boot
}

// opening is a session that waits for the leader's grant.
type opening struct {
	Opened
	answered chan error // 1
	left     bool       // nobody waits any more; guarded by outbox.mu
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), described: map[string]swarm.NodeDescription{}, applied: map[string]Applied{}}
}

func (o *outbox) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	wake(o.wake)
}

// grant asks the leader whether a session may be served and waits for its
// answer.
func (o *outbox) grant(ctx context.Context, x Opened) error {
	w := &opening{Opened: x, answered: make(chan error, 1)}
	o.change(func() { o.opened = append(o.opened, w) })
	select {
	case err := <-w.answered:
		return err
	case <-ctx.Done():
		o.mu.Lock()
		defer o.mu.Unlock()
		w.left = true
		return errFenced
	}
}

func (o *outbox) close(nodeID, boot string) {
	o.change(func() { o.gone = append(o.gone, Gone{nodeID, boot}) })
}

func (o *outbox) describe(nodeID string, d swarm.NodeDescription) {
	o.change(func() { o.described[nodeID] = d })
}

// apply notes up to which index a node has the fabric in effect.
func (o *outbox) apply(a Applied, news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old := o.applied[a.NodeID]; old.Boot != a.Boot || old.Index < a.Index {
		o.applied[a.NodeID] = a
	}
	if news {
		wake(o.wake)
	}
}

// parcel is what was in the outbox at one moment.
type parcel struct {
	opened    []*opening
	gone      []Gone
	described map[string]swarm.NodeDescription
	applied   map[string]Applied
}

func (o *outbox) take() parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = slices.DeleteFunc(o.opened, func(w *opening) bool { return w.left })
	n := min(len(o.opened), maxFacts)
	p := parcel{opened: o.opened[:n:n], gone: o.gone, described: map[string]swarm.NodeDescription{}, applied: o.applied}
	o.applied = map[string]Applied{}
	o.opened, o.gone = slices.Clone(o.opened[n:]), nil
	for id, d := range o.described {
		if len(p.described) == maxFacts {
			break
		}
		p.described[id] = d
		delete(o.described, id)
	}
	if len(o.opened)+len(o.described) > 0 {
		wake(o.wake)
	}
	return p
}

// putBack returns what could not be delivered, behind newer words of the same
// node.
func (o *outbox) putBack(p parcel) {
	o.change(func() {
		o.opened = append(p.opened, o.opened...)
		o.gone = append(p.gone, o.gone...)
		for id, d := range p.described {
			if _, newer := o.described[id]; !newer {
				o.described[id] = d
			}
		}
		for id, a := range p.applied {
			if newer, ok := o.applied[id]; !ok || newer.Boot == a.Boot && newer.Index < a.Index {
				o.applied[id] = a
			}
		}
	})
}

// batch writes the parcel as a batch.
func (p parcel) batch(alive []Alive) Batch {
	b := Batch{Alive: alive, Gone: p.gone}
	for _, w := range p.opened {
		b.Opened = append(b.Opened, w.Opened)
	}
	for id, d := range p.described {
		b.Descriptions = append(b.Descriptions, Description{id, d})
	}
	for _, a := range p.applied {
		b.Applied = append(b.Applied, a)
	}
	return b
}

// answer tells the waiting sessions what the leader said.
func (p parcel) answer(a Answer) {
	for _, w := range p.opened {
		var err error
		for _, r := range a.Refused {
			if r.NodeID == w.NodeID && r.Boot == w.Boot {
				err = refusedError(r)
			}
		}
		w.answered <- err
	}
}

// reportNodes tells the leader every Heartbeat who is alive, and at once who
// comes and goes. While the leader cannot be reached for fenceAfter, this
// manager serves nobody.
func (d *Dispatcher) reportNodes(ctx context.Context) error {
	tick := time.NewTicker(Heartbeat)
	defer tick.Stop()
	retry := backoff.Backoff{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}
	reached := time.Now()
	beat := true
	for {
		var alive []Alive
		if beat {
			alive = d.hub.signs()
		}
		var again <-chan time.Time
		switch err := d.reportOnce(ctx, alive); {
		case err == nil:
			reached = time.Now()
			retry.Reset()
			beat = false
		case time.Since(reached) >= fenceAfter:
			if n := d.hub.shed(errFenced); n > 0 {
				d.cfg.Log.Warn("leader out of reach, sessions ended", "sessions", n, "error", err)
			}
			fallthrough
		default:
			again = time.After(retry.Next())
		}
		select {
		case <-again:
		case <-tick.C:
			beat = true
		case <-d.wakeUnless(again):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wakeUnless is the outbox's wake, unless a retry is due anyway.
func (d *Dispatcher) wakeUnless(retry <-chan time.Time) <-chan struct{} {
	if retry != nil {
		return nil
	}
	return d.outbox.wake
}

func (d *Dispatcher) reportOnce(ctx context.Context, alive []Alive) error {
	p := d.outbox.take()
	// Longer than a commit takes, shorter than fenceAfter.
	try, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	answer, err := d.send(try, p.batch(alive))
	if err != nil {
		d.outbox.putBack(p)
		return err
	}
	p.answer(answer)
	for _, r := range d.hub.refuse(answer.Refused) {
		d.cfg.Log.Warn("session refused by the leader", "node", r.NodeID, "reason", r.Reason)
	}
	return nil
}

// statusQueue collects the statuses of all sessions for the leader.
type statusQueue struct {
	wake chan struct{} // 1

	mu    sync.Mutex
	items []statusItem
}

// statusItem is one batch of one session.
type statusItem struct {
	session  *session
	seq      uint64
	statuses []Status
}

func newStatusQueue() *statusQueue { return &statusQueue{wake: make(chan struct{}, 1)} }

func (q *statusQueue) add(item statusItem) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, item)
	wake(q.wake)
}

// take removes items with at most maxStatuses statuses, at least one item.
// Sessions that have ended are skipped: their workers send again.
func (q *statusQueue) take() (items []statusItem, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := 0
	for _, item := range q.items {
		if len(items) > 0 && size+len(item.statuses) > maxStatuses {
			wake(q.wake)
			break
		}
		taken++
		if item.session.ended() {
			continue
		}
		items = append(items, item)
		size += len(item.statuses)
	}
	q.items = slices.Clone(q.items[taken:])
	return items, size
}

// reportStatuses takes statuses to the leader and acknowledges them when they
// are committed.
func (d *Dispatcher) reportStatuses(ctx context.Context) error {
	for {
		items, size := d.statuses.take()
		if len(items) == 0 {
			select {
			case <-d.statuses.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b := Batch{Statuses: make([]Status, 0, size)}
		for _, item := range items {
			b.Statuses = append(b.Statuses, item.statuses...)
		}
		if err := d.deliver(ctx, b); err != nil {
			return err
		}
		for _, item := range items {
			d.hub.ack(item.session, item.seq)
		}
		d.metrics.statuses.Add(float64(size))
	}
}

// deliver sends a batch until the leader has it or ctx ends.
func (d *Dispatcher) deliver(ctx context.Context, b Batch) error {
	retry := backoff.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := d.send(try, b)
		cancel()
		if err == nil {
			return nil
		}
		if retry.Wait(ctx) != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

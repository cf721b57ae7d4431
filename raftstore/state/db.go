package state

import (
	"fmt"
	"sync"

	"github.com/hashicorp/go-memdb"
)

// DB is one replica of the state. One goroutine applies entries or restores
// snapshots; any number take views meanwhile.
type DB struct {
	mu   sync.RWMutex
	view *View
	log  *changelog
}

// New returns the empty state, at index 0.
func New() (*DB, error) {
	mem, err := memdb.NewMemDB(schema())
	if err != nil {
		return nil, fmt.Errorf("state schema: %w", err)
	}
	log := &changelog{}
	return &DB{log: log, view: newView(mem, 0, log)}, nil
}

// View returns the state as it is now. It never changes.
func (d *DB) View() *View {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.view
}

// Apply moves the state on by one entry, all of its updates or none. It
// returns ErrStale, and changes nothing, for an entry that does not follow.
func (d *DB) Apply(e Entry) error {
	v := d.View()
	if e.First != v.index+1 {
		return fmt.Errorf("entry %d on index %d: %w", e.First, v.index, ErrStale)
	}
	next, events, err := v.apply(e.First, e.Updates)
	if err != nil {
		return err
	}
	next.log = d.log
	d.log.append(events, next.index)
	d.mu.Lock()
	d.view = next
	d.mu.Unlock()
	return nil
}

// replace puts a restored state in place of the current one.
func (d *DB) replace(mem *memdb.MemDB, index uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = &changelog{start: index}
	d.view = newView(mem, index, d.log)
}

// apply returns the view after some updates, and what they changed. memdb's
// snapshots are independent databases that share what they have in common, so
// v itself stays as it is.
func (v *View) apply(first uint64, updates [][]Change) (*View, []Event, error) {
	mem := v.mem.Snapshot()
	txn := mem.Txn(true)
	var events []Event
	for i, changes := range updates {
		for _, c := range changes {
			event, err := applyChange(txn, c)
			if err != nil {
				txn.Abort()
				return nil, nil, err
			}
			if event.Old == nil && event.New == nil {
				continue
			}
			event.Index = first + uint64(i)
			events = append(events, event)
		}
	}
	txn.Commit()
	return newView(mem, first+uint64(len(updates))-1, nil), events, nil
}

func applyChange(txn *memdb.Txn, c Change) (Event, error) {
	raw, err := txn.First(string(c.kind), byID, c.key)
	if err != nil {
		return Event{}, fmt.Errorf("look up %s %s: %w", c.kind, c.key, err)
	}
	var event Event
	if raw != nil {
		event.Old = raw.(Object)
	}
	switch {
	case c.put != nil:
		event.New = c.put
		err = txn.Insert(string(c.kind), c.put)
	case event.Old != nil:
		err = txn.Delete(string(c.kind), event.Old)
	}
	if err != nil {
		return Event{}, fmt.Errorf("change %s %s: %w", c.kind, c.key, err)
	}
	return event, nil
}

// Draft is a state that runs ahead of a view: the leader plans on it while its
// earlier plans are being committed. It is not safe for concurrent use.
type Draft struct{ view *View }

// NewDraft starts a draft at v.
func NewDraft(v *View) *Draft { return &Draft{view: v.detached()} }

// View returns the state with all that was added. Since knows nothing of it.
func (d *Draft) View() *View { return d.view }

// Add applies one update, which gets the next index.
func (d *Draft) Add(changes []Change) error {
	next, _, err := d.view.apply(d.view.index+1, [][]Change{changes})
	if err != nil {
		return err
	}
	d.view = next
	return nil
}

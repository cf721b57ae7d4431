package state

import (
	"fmt"
	"sync"
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
	log := &changelog{}
	return &DB{log: log, view: newView(newTables(), 0, log)}, nil
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
func (d *DB) replace(t tables, index uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = &changelog{start: index}
	d.view = newView(t, index, d.log)
}

// apply returns the view after some updates, and what they changed. v itself
// stays as it is: trees that are written to are clones, which share with it
// what they have in common.
func (v *View) apply(first uint64, updates [][]Change) (*View, []Event, error) {
	next, err := v.open(updates)
	if err != nil {
		return nil, nil, err
	}
	var events []Event
	for i, changes := range updates {
		for _, c := range changes {
			event := next.of(c.kind).apply(c)
			if event.Old == nil && event.New == nil {
				continue
			}
			event.Index = first + uint64(i)
			events = append(events, event)
		}
	}
	return newView(next, first+uint64(len(updates))-1, nil), events, nil
}

// open returns the tables of v, those that updates write to as clones.
func (v *View) open(updates [][]Change) (tables, error) {
	next := v.tables
	opened := map[Kind]bool{}
	for _, changes := range updates {
		for _, c := range changes {
			if opened[c.kind] {
				continue
			}
			if next.of(c.kind) == nil {
				return tables{}, fmt.Errorf("change %s %s: there is no such kind", c.kind, c.key)
			}
			next.open(c.kind)
			opened[c.kind] = true
		}
	}
	return next, nil
}

// Draft is a state that runs ahead of a view: the leader plans on it while its
// earlier plans are being committed. It is not safe for concurrent use.
type Draft struct{ view *View }

// NewDraft starts a draft at v.
func NewDraft(v *View) *Draft {
	return &Draft{view: newView(v.tables, v.index, nil)}
}

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

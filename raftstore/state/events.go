package state

import (
	"slices"
	"sync"
)

// keepEvents is how many changes Since can look back: some minutes of a busy
// cluster. A reader that is further behind looks at everything once.
const keepEvents = 1 << 16

// Event is one object that an update changed. Old is nil for an object that
// was created, New for one that was deleted.
type Event struct {
	Index    uint64
	Old, New Object
}

// Object is what the event is about: New, or Old for a deletion.
func (e Event) Object() Object {
	if e.New != nil {
		return e.New
	}
	return e.Old
}

// changelog holds the newest events in order. It is complete for indexes
// above start.
type changelog struct {
	mu     sync.RWMutex
	events []Event
	start  uint64 // events up to this index are gone
	end    uint64
}

func (l *changelog) append(events []Event, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, events...)
	l.end = end
	// Trimmed at twice the size, so that the cost of copying is spread.
	if len(l.events) > 2*keepEvents {
		cut := len(l.events) - keepEvents
		l.start = l.events[cut-1].Index
		for cut < len(l.events) && l.events[cut].Index == l.start {
			cut++
		}
		l.events = append([]Event(nil), l.events[cut:]...)
	}
}

// between returns the events with an index in (from, to].
func (l *changelog) between(from, to uint64) ([]Event, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if from < l.start || from > to {
		return nil, false
	}
	after := func(index uint64) int {
		i, _ := slices.BinarySearchFunc(l.events, index+1, func(e Event, index uint64) int {
			switch {
			case e.Index < index:
				return -1
			case e.Index > index:
				return 1
			}
			return 0
		})
		// BinarySearch finds the first of equal elements.
		return i
	}
	return slices.Clone(l.events[after(from):after(to)]), true
}

// Since returns what changed after index up to this view, in order. It is not
// ok when that is no longer known (index lies too far back, was restored from
// a snapshot, or lies ahead): then look at everything.
func (v *View) Since(index uint64) (events []Event, ok bool) {
	if v.log == nil {
		return nil, false
	}
	return v.log.between(index, v.index)
}

package executor

import (
	"sync"

	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// inbox collects what others have to tell the loop, so that nobody waits for
// it and a burst is taken in at once.
type inbox struct {
	wake chan struct{} // holds one token while there is news
	mu   sync.Mutex
	news news
}

// news is what happened since the loop last looked.
type news struct {
	tasks    []assignment.Task
	isSet    bool // tasks holds something
	complete bool
	touched  map[string]bool // task ids
	results  []result
	listing  *listing
	connect  bool  // the engine is there, again
	lost     error // the engine went away
}

// listing is what a list of the cluster's containers found.
type listing struct {
	host       *host // nil: not asked
	containers []engine.Summary
	files      []string // ids of tasks that have files
	err        error
}

func newInbox() inbox { return inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) add(change func(n *news)) {
	b.mu.Lock()
	change(&b.news)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// empty takes all that there is.
func (b *inbox) empty() news {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.news
	b.news = news{}
	return n
}

func (b *inbox) set(tasks []assignment.Task, complete bool) {
	b.add(func(n *news) {
		if !complete && n.isSet { // both count
			tasks = append(n.tasks, tasks...)
		}
		n.tasks, n.isSet, n.complete = tasks, true, complete || n.complete
	})
}

func (b *inbox) touch(taskID string) {
	b.add(func(n *news) {
		if n.touched == nil {
			n.touched = map[string]bool{}
		}
		n.touched[taskID] = true
	})
}

func (b *inbox) done(r result)     { b.add(func(n *news) { n.results = append(n.results, r) }) }
func (b *inbox) listed(l *listing) { b.add(func(n *news) { n.listing = l }) }
func (b *inbox) connect()          { b.add(func(n *news) { n.connect, n.lost = true, nil }) }
func (b *inbox) disconnect(err error) {
	b.add(func(n *news) { n.connect, n.lost = false, err })
}

package session

import (
	"sync"
	"time"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
)

// maxBatch is how many statuses go into one line.
const maxBatch = 500

// passing is how long a status may wait that a task goes through on its way: a
// task that starts quickly is written down by the managers once or twice then,
// not five times. 50ms: below what a user notices.
const passing = 50 * time.Millisecond

// queue holds the newest status of each task until a manager has committed
// it. One batch is under way at a time, so a task whose status changes faster
// than managers can follow is sent less often, never late.
type queue struct {
	wake chan struct{} // 1: there may be something to send

	mu      sync.Mutex
	waiting map[string]taskstate.Status
	order   []string // of waiting, oldest first
	sent    []assignment.StatusUpdate
	seq     uint64 // of sent, or of the last batch that was acknowledged
	late    bool   // a wake is due for statuses that may wait
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), waiting: map[string]taskstate.Status{}}
}

func (q *queue) put(taskID string, s taskstate.Status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.waiting[taskID]; !ok {
		q.order = append(q.order, taskID)
	}
	q.waiting[taskID] = s
	if s.State < taskstate.Accepted || s.State >= taskstate.Running {
		wake(q.wake)
		return
	}
	if !q.late {
		q.late = true
		time.AfterFunc(passing, q.wakeLate)
	}
}

func (q *queue) wakeLate() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.late = false
	if len(q.order) > 0 {
		wake(q.wake)
	}
}

// next returns the next batch, nil while there is none or one is under way.
func (q *queue) next() ([]assignment.StatusUpdate, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sent != nil || len(q.order) == 0 {
		return nil, 0
	}
	n := min(len(q.order), maxBatch)
	for _, id := range q.order[:n] {
		q.sent = append(q.sent, assignment.StatusUpdate{TaskID: id, Status: q.waiting[id]})
		delete(q.waiting, id)
	}
	q.order = append([]string(nil), q.order[n:]...)
	q.seq++
	return q.sent, q.seq
}

// ack ends the batch under way if the manager has committed up to seq.
func (q *queue) ack(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq == 0 || seq < q.seq {
		return
	}
	q.sent = nil
	if len(q.order) > 0 {
		wake(q.wake)
	}
}

// reset begins a new session: what was under way is sent again, unless a task
// has a newer status by now.
func (q *queue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	order := make([]string, 0, len(q.sent)+len(q.order))
	for _, u := range q.sent {
		if _, newer := q.waiting[u.TaskID]; !newer {
			q.waiting[u.TaskID] = u.Status
			order = append(order, u.TaskID)
		}
	}
	q.order = append(order, q.order...)
	q.sent, q.seq = nil, 0
	if len(q.order) > 0 {
		wake(q.wake)
	}
}

// len is the number of statuses that are not acknowledged.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.order) + len(q.sent)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

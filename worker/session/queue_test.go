package session

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
)

func status(s taskstate.State) taskstate.Status { return taskstate.Status{State: s} }

// text writes a batch as "id state".
func text(batch []assignment.StatusUpdate) (list []string) {
	for _, u := range batch {
		list = append(list, u.TaskID+" "+u.Status.State.String())
	}
	return list
}

func checkNext(t *testing.T, q *queue, seq uint64, want ...string) {
	t.Helper()
	batch, got := q.next()
	if diff := cmp.Diff(want, text(batch)); diff != "" || got != seq {
		t.Errorf("batch %d, want %d (-want +got):\n%s", got, seq, diff)
	}
}

func TestQueueSendsNewestOfEachTaskOneBatchAtATime(t *testing.T) {
	q := newQueue()
	q.put("a", status(taskstate.Accepted))
	q.put("b", status(taskstate.Accepted))
	q.put("a", status(taskstate.Preparing))
	checkNext(t, q, 1, "a preparing", "b accepted")
	q.put("a", status(taskstate.Running))
	checkNext(t, q, 0) // one is under way
	q.ack(1)
	checkNext(t, q, 2, "a running")
	q.ack(1) // late
	if q.len() != 1 {
		t.Errorf("%d unacknowledged, want 1", q.len())
	}
	q.ack(2)
	if q.len() != 0 {
		t.Errorf("%d unacknowledged, want 0", q.len())
	}
}

func TestQueueSurvivesSessions(t *testing.T) {
	q := newQueue()
	q.put("a", status(taskstate.Accepted))
	q.put("b", status(taskstate.Accepted))
	checkNext(t, q, 1, "a accepted", "b accepted")
	q.put("c", status(taskstate.Accepted))
	q.put("a", status(taskstate.Running))
	q.reset()
	checkNext(t, q, 1, "b accepted", "c accepted", "a running")
	q.reset()
	checkNext(t, q, 1, "b accepted", "c accepted", "a running")
}

func TestQueueLimitsBatches(t *testing.T) {
	q := newQueue()
	for i := range 2*maxBatch + 1 {
		q.put(fmt.Sprint(i), status(taskstate.Running))
	}
	for seq, want := range []int{maxBatch, maxBatch, 1} {
		if batch, _ := q.next(); len(batch) != want {
			t.Errorf("batch %d has %d, want %d", seq+1, len(batch), want)
		}
		q.ack(uint64(seq) + 1) //nolint:gosec // small
	}
}

func TestQueueWakesOnlyWhenThereIsWork(t *testing.T) {
	q := newQueue()
	q.reset()
	q.ack(5)
	select {
	case <-q.wake:
		t.Error("woken for nothing")
	default:
	}
	q.put("a", status(taskstate.Running))
	<-q.wake
	q.next()
	q.put("b", status(taskstate.Running))
	<-q.wake // and finds that a batch is under way
	q.ack(1)
	<-q.wake
	checkNext(t, q, 2, "b running")
}

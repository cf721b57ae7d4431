package executor

import (
	"net"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/taskstate"
)

func TestBacklogCountsWhatWaitsToBeAccepted(t *testing.T) {
	before, err := backlog(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3 {
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if n, err := backlog(os.Getpid()); n < before+3 || err != nil {
		t.Errorf("%d wait, err %v, want 3 more than %d", n, err, before)
	}
	if n := waiting("  sl  local_address rem_address   st tx_queue rx_queue\n   0: 00000000:1F90 00000000:0000 0A 00000080:0000000B 00:00000000\n   1: 0100007F:1F90 0100007F:0001 01 00000000:00000007 00:00000000\n   2: broken\n"); n != 11 {
		t.Errorf("%d wait, want 11: connections that are open count their bytes", n)
	}
	if _, err := backlog(1 << 30); err == nil {
		t.Error("a process that is not there has a backlog")
	}
}

func TestTaskStopsOnceItHasAccepted(t *testing.T) {
	for name, c := range map[string]struct{ accepts, stops time.Duration }{
		"soon":  {300 * time.Millisecond, settleTime + 300*time.Millisecond},
		"never": {time.Hour, settleTime + backlogTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := onNetworks(t)
				task := networked("t1", taskstate.Running)
				h.x.Set(set(task), true)
				h.after(0)
				withdrawn := time.Now()
				h.x.cfg.Backlog = func(pid int) (int, error) {
					if pid != h.last("t1").PID {
						t.Errorf("asked for process %s", strconv.Itoa(pid))
					}
					if time.Since(withdrawn) < settleTime+c.accepts {
						return 2, nil
					}
					return 0, nil
				}
				task.Withdrawn = true
				h.x.Set(set(desired(task, taskstate.Shutdown)), true)
				h.after(c.stops - backlogEvery - time.Millisecond)
				h.want("t1", taskstate.Running, "")
				h.after(2*backlogEvery + 2*time.Millisecond)
				h.want("t1", taskstate.Shutdown, "")
			})
		})
	}
}

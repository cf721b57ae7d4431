package executor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"shoal/internal/taskstate"
)

const (
	// backlogTime bounds how long a task that is to stop is waited for until its
	// program has accepted the connections that others have opened to it: one that
	// accepts no more never will.
	backlogTime = 5 * time.Second
	// backlogEvery is how often to look: the kernel tells of no change.
	backlogEvery = 20 * time.Millisecond
)

// awaitAccepted waits until the program of a task that nobody sends anything new
// has accepted what is open to it: connections in the queue of a listener are
// reset when it ends, although their clients have been let in.
func (e *Executor) awaitAccepted(ctx context.Context, o order) {
	if o.pid == 0 || !o.task.Withdrawn || o.task.Desired < taskstate.Shutdown || len(o.task.Networks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, backlogTime)
	defer cancel()
	tick := time.NewTicker(backlogEvery)
	defer tick.Stop()
	for {
		n, err := e.cfg.Backlog(o.pid)
		if err != nil || n == 0 {
			return // an error is a process that has gone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.log.Warn("stopping a task that accepts no connections", "task", o.task.ID, "waiting", n)
			return
		}
	}
}

// backlog counts the connections that wait to be accepted in the network
// namespace of a process.
func backlog(pid int) (n int, err error) {
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil && (table == "tcp" || !os.IsNotExist(err)) { // without IPv6 there is one table only
			return 0, err
		}
		n += waiting(string(text))
	}
	return n, nil
}

// waiting adds up what a table of /proc/net has in the receive queues of
// listeners, which are those of connections (proc(5)).
func waiting(table string) (n int) {
	const listening = "0A"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 || f[3] != listening {
			continue
		}
		_, queue, _ := strings.Cut(f[4], ":")
		if have, err := strconv.ParseUint(queue, 16, 32); err == nil {
			n += int(have) //nolint:gosec // 32 bits
		}
	}
	return n
}

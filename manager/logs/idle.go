package logs

import (
	"context"
	"fmt"
	"io"
	"time"
)

// idle ends the reading of a log for which its engine lets us wait.
type idle struct {
	timer *time.Timer // nil: it may be silent
	stop  context.CancelCauseFunc
}

// newIdle returns a context that ends when nothing has come for idleTime, unless
// the log is followed.
func newIdle(ctx context.Context, follow bool) (context.Context, *idle) {
	ctx, stop := context.WithCancelCause(ctx)
	i := &idle{stop: stop}
	if !follow {
		i.timer = time.AfterFunc(idleTime, func() { stop(errIdle) })
	}
	return ctx, i
}

var errIdle = fmt.Errorf("it has not said anything for %s", idleTime)

// reader is from, watched while something is being read of it.
func (i *idle) reader(from io.Reader) io.Reader {
	if i.timer == nil {
		return from
	}
	i.timer.Stop()
	return idleReader{from, i.timer}
}

type idleReader struct {
	io.Reader
	timer *time.Timer
}

func (r idleReader) Read(p []byte) (int, error) {
	r.timer.Reset(idleTime)
	defer r.timer.Stop()
	return r.Reader.Read(p)
}

// reason is err, or that the log was given up.
func (i *idle) reason(ctx context.Context, node string, err error) error {
	if context.Cause(ctx) == errIdle { //nolint:errorlint // made here
		return fmt.Errorf("node %s was given up: %w", node, errIdle)
	}
	return err
}

func (i *idle) end() {
	if i.timer != nil {
		i.timer.Stop()
	}
	i.stop(nil)
}

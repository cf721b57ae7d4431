package logs

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// batchSize is how much of one log is written before another one has its turn.
const batchSize = 32 << 10

// output is what all logs are merged into. Batches are of whole messages.
type output struct {
	framed  bool
	waiting atomic.Int32

	mu    sync.Mutex
	w     *bufio.Writer
	push  func() error
	broke error
}

func newOutput(w io.Writer, push func() error, framed bool) *output {
	return &output{w: bufio.NewWriterSize(w, 2*batchSize), push: push, framed: framed}
}

// write appends a batch. Unless the writer has more at hand, or another one
// waits, the client gets all there is.
func (o *output) write(batch []byte, more bool) error {
	o.waiting.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	idle := o.waiting.Add(-1) == 0 && !more
	if o.broke != nil {
		return o.broke
	}
	if _, o.broke = o.w.Write(batch); o.broke == nil && idle {
		o.broke = o.flushLocked()
	}
	return o.broke
}

func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broke == nil {
		o.broke = o.flushLocked()
	}
	return o.broke
}

func (o *output) flushLocked() error {
	if err := o.w.Flush(); err != nil {
		return err
	}
	return o.push()
}

// form is how the messages of one container are written.
type form struct {
	framed, timestamps, details bool

	own    attributes
	last   []byte // attributes of the engine for which merged is
	merged []byte
}

// append adds a message to a batch.
func (f *form) append(batch []byte, m message) []byte {
	start := len(batch)
	if f.framed {
		batch = append(batch, m.stream, 0, 0, 0, 0, 0, 0, 0)
	}
	if len(m.stamp) > 0 {
		if f.timestamps {
			batch = append(append(batch, m.stamp...), ' ')
		}
		if f.details {
			batch = append(append(batch, f.attributes(m.attrs)...), ' ')
		}
	}
	batch = append(batch, m.text...)
	if f.framed {
		binary.BigEndian.PutUint32(batch[start+4:], uint32(len(batch)-start-headerSize)) //nolint:gosec // at most maxMessage and a little
	}
	return batch
}

// attributes are those of the engine and ours. A container's are always the
// same, so that they are merged once.
func (f *form) attributes(engine []byte) []byte {
	if f.merged == nil || string(f.last) != string(engine) {
		f.last, f.merged = append(f.last[:0], engine...), f.own.merge(engine)
	}
	return f.merged
}

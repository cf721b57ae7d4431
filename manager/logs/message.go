package logs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Streams of a framed log, as Docker numbers them.
const (
	stdout      = 1
	stderr      = 2
	systemError = 3 // clients report its content as an error, and stop
)

const (
	headerSize = 8
	// maxMessage is far above what engines put into one: they cut lines at 16 KiB.
	maxMessage = 1 << 20
	// readSize holds many lines, and one that is cut.
	readSize = 32 << 10
	// stampSize is the length of a time as engines write it, to the nanosecond.
	stampSize = len("2006-01-02T15:04:05.000000000Z")
)

// message is a line of a log, or a piece of one that is long. Its parts are
// valid until the next one is read.
type message struct {
	stream byte
	stamp  []byte // empty: it has none
	attrs  []byte // what the engine tells of the container with details
	text   []byte
}

// reader reads the log of one container with times.
type reader struct {
	in      *bufio.Reader
	framed  bool // else the container has a terminal
	details bool
	frame   []byte
	inside  bool // raw: the last piece did not end its line
}

func newReader(r io.Reader, framed, details bool) *reader {
	return &reader{in: bufio.NewReaderSize(r, readSize), framed: framed, details: details}
}

// next returns io.EOF at the end.
func (r *reader) next() (m message, err error) {
	if !r.framed {
		return r.nextRaw()
	}
	header, err := r.in.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(header) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return m, err
	}
	size := binary.BigEndian.Uint32(header[4:])
	if m.stream = header[0]; m.stream > systemError || size > maxMessage {
		return m, fmt.Errorf("a frame of stream %d with %d bytes: this is no log", m.stream, size)
	}
	_, _ = r.in.Discard(headerSize) // they are there
	if cap(r.frame) < int(size) {
		r.frame = make([]byte, size)
	}
	r.frame = r.frame[:size]
	if _, err := io.ReadFull(r.in, r.frame); err != nil {
		return m, errors.Join(io.ErrUnexpectedEOF, err)
	}
	r.split(&m, r.frame)
	return m, nil
}

func (r *reader) nextRaw() (m message, err error) {
	piece, err := r.in.ReadSlice('\n')
	if len(piece) == 0 && err != nil {
		return m, err
	}
	m.stream = stdout
	if r.inside {
		m.text = piece
	} else {
		r.split(&m, piece)
	}
	r.inside = errors.Is(err, bufio.ErrBufferFull)
	return m, nil
}

// split takes time and attributes off.
func (r *reader) split(m *message, line []byte) {
	m.text = line
	if m.stream == systemError || len(line) <= stampSize || line[stampSize] != ' ' || line[10] != 'T' {
		return
	}
	m.stamp, m.text = line[:stampSize], line[stampSize+1:]
	if r.details {
		if i := bytes.IndexByte(m.text, ' '); i >= 0 {
			m.attrs, m.text = m.text[:i], m.text[i+1:]
		}
	}
}

// more reports whether the next message is here already, so that next will not
// wait.
func (r *reader) more() bool {
	buffered := r.in.Buffered()
	if !r.framed {
		here, _ := r.in.Peek(buffered)
		return bytes.IndexByte(here, '\n') >= 0
	}
	if buffered < headerSize {
		return false
	}
	header, _ := r.in.Peek(headerSize)
	return int64(buffered) >= headerSize+int64(binary.BigEndian.Uint32(header[4:]))
}

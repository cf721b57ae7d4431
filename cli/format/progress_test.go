package format

import (
	"bytes"
	"strings"
	"testing"
)

func TestLinesPrintsChangesOnly(t *testing.T) {
	var out bytes.Buffer
	l := NewLines(&out)
	show := func(header, one, two, footer string) {
		l.Show(Frame{Header: header, Bars: []Bar{{Name: "1/2", Text: one}, {Name: "2/2", Text: two}}, Footer: footer})
	}
	show("overall progress: 0 out of 2 tasks", "preparing", "", "")
	show("overall progress: 0 out of 2 tasks", "preparing", "", "")
	show("overall progress: 1 out of 2 tasks", "running", "preparing", "")
	show("overall progress: 2 out of 2 tasks", "running", "running", "verify: Waiting 5 seconds")
	show("overall progress: 2 out of 2 tasks", "running", "running", "verify: Waiting 4 seconds")
	show("overall progress: 2 out of 2 tasks", "running", "running", "verify: Service x converged")
	golden(t, "progress-lines", out.String())
}

func TestScreenRedrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	s := NewScreen(&out, func() (int, int) { return 60, 24 })
	f := Frame{Header: "overall progress: 0 out of 2 tasks", Bars: []Bar{{Name: "1/2", Text: "preparing", Current: 6, Total: 9}, {Name: "2/2", Text: "No such image: " + strings.Repeat("x", 80)}}}
	s.Show(f)
	s.Show(f) // nothing new: nothing written
	f.Bars[0] = Bar{Name: "1/2", Text: "running", Current: 9, Total: 9}
	f.Footer = "verify: Waiting 5 seconds to verify that tasks are stable..."
	s.Show(f)
	f.Bars = nil
	s.Show(f)
	golden(t, "progress-screen", strings.ReplaceAll(out.String(), "\x1b", "ESC"))
	for line := range strings.Lines(out.String()) {
		if len([]rune(line)) > 60+len("\x1b[2K\x1b[J\x1b[99A\r\n") {
			t.Errorf("line would wrap: %q", line)
		}
	}
}

func TestScreenFitsSmallTerminals(t *testing.T) {
	var bars []Bar
	for range 20 {
		bars = append(bars, Bar{Name: "1/20", Text: "running", Current: 9, Total: 9})
	}
	for _, size := range [][2]int{{1, 1}, {5, 3}, {20, 10}, {80, 24}} {
		lines := Frame{Header: "overall", Bars: bars, Footer: "verify"}.lines(size[0], size[1])
		if len(lines) > max(size[1], 2) {
			t.Errorf("%v: %d lines", size, len(lines))
		}
	}
}

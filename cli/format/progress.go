package format

import (
	"fmt"
	"io"
	"strings"
)

// Bar is one task on its way.
type Bar struct {
	Name           string // "1/3", or a node
	Text           string // its state, or its error
	Current, Total int    // 0 of 0: no bar
}

// Frame is the progress of a service at one moment.
type Frame struct {
	Header string
	Bars   []Bar
	Footer string
}

// Progress shows frames.
type Progress interface{ Show(Frame) }

// Silent shows nothing.
type Silent struct{}

// Show implements Progress.
func (Silent) Show(Frame) {}

// Lines prints a line for whatever has changed, and nothing else, so that a log
// holds the story and no more.
type Lines struct {
	w    io.Writer
	last map[string]string
}

// NewLines prints to w.
func NewLines(w io.Writer) *Lines { return &Lines{w: w, last: map[string]string{}} }

// Show implements Progress.
func (l *Lines) Show(f Frame) {
	l.line("header", "", f.Header)
	for _, b := range f.Bars {
		l.line(b.Name, b.Name+": ", b.Text)
	}
	// A count-down is one event.
	if strings.HasPrefix(f.Footer, "verify: Waiting") && strings.HasPrefix(l.last["footer"], "verify: Waiting") {
		return
	}
	l.line("footer", "", f.Footer)
}

func (l *Lines) line(key, prefix, text string) {
	if l.last[key] == text {
		return
	}
	l.last[key] = text
	if text != "" {
		fmt.Fprintf(l.w, "%s%s\n", prefix, text)
	}
}

// Screen redraws the frame in place on a terminal.
type Screen struct {
	w     io.Writer
	size  func() (width, height int)
	drawn int // lines that are on the screen
	last  string
}

// NewScreen draws to w, a terminal of the size that size tells.
func NewScreen(w io.Writer, size func() (width, height int)) *Screen {
	return &Screen{w: w, size: size}
}

// Show implements Progress.
func (s *Screen) Show(f Frame) {
	width, height := s.size()
	lines := f.lines(width, height)
	text := strings.Join(lines, "\n")
	if text == s.last {
		return
	}
	s.last = text
	var out strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", s.drawn) // up
	}
	for _, line := range lines {
		fmt.Fprintf(&out, "\x1b[2K%s\n", line) // clear the line
	}
	out.WriteString("\x1b[J") // and what was below
	s.drawn = len(lines)
	_, _ = io.WriteString(s.w, out.String())
}

// lines leaves out bars that the terminal has no room for: what scrolled away
// cannot be redrawn.
func (f Frame) lines(width, height int) []string {
	lines := []string{Ellipsis(f.Header, width-1)}
	bars := f.Bars
	if room := max(height-4, 0); len(bars) > room {
		bars = bars[:room]
	}
	nameWidth := 0
	for _, b := range bars {
		nameWidth = max(nameWidth, len(b.Name))
	}
	for _, b := range bars {
		lines = append(lines, Ellipsis(b.line(nameWidth, width), width-1))
	}
	if f.Footer != "" {
		lines = append(lines, Ellipsis(f.Footer, width-1))
	}
	return lines
}

func (b Bar) line(nameWidth, width int) string {
	line := fmt.Sprintf("%-*s %s", nameWidth+1, b.Name+":", b.Text)
	if b.Total == 0 {
		return line
	}
	const stateWidth, most = 9, 50 // the longest state; Docker's bar
	room := min(width-nameWidth-stateWidth-7, most)
	if room < 10 {
		return line
	}
	done := room * b.Current / b.Total
	bar := strings.Repeat("=", done)
	if done < room {
		bar += ">" + strings.Repeat(" ", room-done-1)
	}
	return fmt.Sprintf("%-*s %-*s [%s]", nameWidth+1, b.Name+":", stateWidth, b.Text, bar)
}

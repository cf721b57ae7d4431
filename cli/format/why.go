package format

import (
	"fmt"
	"io"
	"strings"
	"time"

	"shoal/internal/plain"
)

// Why is why a task or service is as it is.
type Why struct {
	Kind, ID, Name, State, DesiredState, Cause string
	Evidence                                   []string
	Fix                                        string
	Fixes                                      []string   `json:",omitempty"`
	RetryAt                                    *time.Time `json:",omitempty"`
	Container                                  *Testimony `json:",omitempty"`
}

// Testimony is what the container of a task tells.
type Testimony struct {
	Task    string
	Output  []string  `json:",omitempty"`
	Health  []Checkup `json:",omitempty"`
	OOM     bool      `json:",omitempty"`
	Missing []string  `json:",omitempty"`
}

// Checkup is a health check that failed.
type Checkup struct {
	At       time.Time
	ExitCode int
	Output   string
	Times    int `json:",omitempty"`
}

// WriteWhy prints w for people.
func WriteWhy(out io.Writer, w Why, now time.Time) {
	state := w.State
	if w.DesiredState != "" && w.DesiredState != w.State {
		state += " (wanted: " + w.DesiredState + ")"
	}
	fmt.Fprintf(out, "%s %s (%s): %s\n", Title(w.Kind), w.Name, TruncateID(w.ID), state)
	p := paragraphs{out}
	if w.Cause != "" {
		fmt.Fprintln(out)
		p.write("Cause:", w.Cause)
	}
	p.write("Evidence:", w.Evidence...)
	if w.Container != nil {
		p.testimony(*w.Container, now)
	}
	if len(w.Fixes) == 0 && w.Fix != "" {
		w.Fixes = []string{w.Fix}
	}
	for i, fix := range w.Fixes {
		p.write([]string{"Fix:", "or:"}[min(i, 1)], fix)
	}
}

// paragraphs are lines behind a label.
type paragraphs struct{ out io.Writer }

func (p paragraphs) write(label string, lines ...string) {
	for _, line := range lines {
		fmt.Fprintf(p.out, "%-11s%s\n", label, plain.Line(line, 0))
		label = ""
	}
}

func (p paragraphs) testimony(t Testimony, now time.Time) {
	for i, c := range t.Health {
		p.write([]string{"Health:", ""}[min(i, 1)], checkupText(c, now))
		p.quote(c.Output)
	}
	switch {
	case len(t.Output) > 0:
		p.write("Output:", "the last lines of task "+t.Task)
		p.quote(strings.Join(t.Output, "\n"))
	case len(t.Missing) == 0:
		p.write("Output:", "task "+t.Task+" has written nothing")
	}
	p.write("Missing:", t.Missing...)
}

// quote sets off what a program wrote from what shoal says.
func (p paragraphs) quote(text string) {
	for _, line := range plain.Lines(text, 0) {
		p.write("", "  | "+line)
	}
}

func checkupText(c Checkup, now time.Time) string {
	what := fmt.Sprintf("exit code %d", c.ExitCode)
	if c.ExitCode < 0 {
		what = "it could not run, or not in time"
	}
	if c.Times > 1 {
		what += fmt.Sprintf(", %d times in a row", c.Times)
	}
	if c.At.IsZero() {
		return what
	}
	return what + ", " + Ago(c.At, now)
}

package cli

import (
	_ "embed"
	"slices"
	"strings"
)

// examples is a walk through a cluster, from its making to its end, a line for
// each step: the host, ':' or '&', and what is typed there. --help shows those of
// its command; all of them, in this order, are run by a test on hosts with real
// engines.
//
//go:embed examples.txt
var examples string

// Example is a line of the walk.
type Example struct {
	Host    string // h1 to h3
	Line    string // for a shell
	Endless bool   // until it is interrupted
}

// Examples returns the walk, in order.
func Examples() (all []Example) {
	for line := range strings.Lines(examples) {
		at := strings.IndexAny(line, ":&")
		all = append(all, Example{Host: line[:at], Line: strings.TrimSpace(line[at+1:]), Endless: line[at] == '&'})
	}
	return all
}

// of reports whether a line is about c.
func (e Example) of(c *command) bool {
	return strings.Contains(" "+e.Line+" ", " "+c.path()+" ")
}

// examplesOf are the lines about c, none of a group of commands.
func examplesOf(c *command) (lines []string) {
	if len(c.commands) > 0 {
		return nil
	}
	for _, e := range Examples() {
		if e.of(c) && !slices.Contains(lines, e.Line) {
			lines = append(lines, e.Line)
		}
	}
	return lines
}

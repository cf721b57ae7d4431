//go:build docker

package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// step is one command and how its answers are compared.
type step struct {
	where   string // file:line
	host    int    // 1 to hosts
	program string // docker, docker-compose, or none: an HTTP request
	line    string // what follows the program, or "METHOD /path"
	body    string

	until   *regexp.Regexp // repeated until the answer matches
	save    string         // variable that takes the answer
	sorted  bool           // the order of lines has no meaning
	last    bool           // only the last line counts
	shape   bool           // of JSON, only which keys there are
	more    bool           // shoal's message is Swarm's, and says what was given or allowed
	ignore  bool           // what is printed cannot be compared
	differs string         // why the answers are not equal
	shoal   *regexp.Regexp // what shoal answers instead
}

// readTable reads the steps of files in their order. A line that starts at
// the margin is a command, indented lines below it say how to compare.
func readTable(t *testing.T, pattern string) []step {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	var steps []step
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			where := fmt.Sprintf("%s:%d", filepath.Base(file), i+1)
			switch trimmed := strings.TrimSpace(line); {
			case trimmed == "" || strings.HasPrefix(trimmed, "#"):
			case trimmed == line:
				steps = append(steps, parseCommand(t, where, line))
			default:
				parseDirective(t, where, &steps[len(steps)-1], trimmed)
			}
		}
	}
	return steps
}

func parseCommand(t *testing.T, where, line string) step {
	t.Helper()
	first, rest, _ := strings.Cut(line, " ")
	name, at, elsewhere := strings.Cut(first, "@")
	s := step{where: where, host: 1, line: rest}
	if elsewhere {
		n, err := strconv.Atoi(at)
		if err != nil || n < 1 || n > hosts {
			t.Fatalf("%s: host %q", where, at)
		}
		s.host = n
	}
	switch name {
	case "docker", "docker-compose":
		s.program = name
	case "GET", "POST", "DELETE", "HEAD", "PUT":
		s.line = name + " " + rest
	default:
		t.Fatalf("%s: unknown command %q", where, name)
	}
	return s
}

func parseDirective(t *testing.T, where string, s *step, line string) {
	t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "body":
		s.body = rest
	case "until":
		s.until = compile(t, where, rest)
	case "save":
		s.save = rest
	case "sorted":
		s.sorted = true
	case "last":
		s.last = true
	case "shape":
		s.shape = true
	case "more":
		s.more = true
	case "ignore":
		s.ignore = true
	case "differs":
		s.differs = rest
	case "shoal":
		s.shoal = compile(t, where, rest)
	default:
		t.Fatalf("%s: unknown directive %q", where, word)
	}
}

func compile(t *testing.T, where, expr string) *regexp.Regexp {
	t.Helper()
	r, err := regexp.Compile("(?s)" + expr)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	return r
}

// difference is a place in JSON answers that differs on purpose.
type difference struct {
	path   *regexp.Regexp
	reason string
	seen   bool
}

// readDifferences reads files as testdata/differences.txt: a regular expression
// for the path within the answer, then the reason.
func readDifferences(t *testing.T, files ...string) []*difference {
	t.Helper()
	var known []*difference
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			where := fmt.Sprintf("%s:%d", file, i+1)
			path, reason, ok := strings.Cut(line, " ")
			if !ok {
				t.Fatalf("%s: no reason", where)
			}
			known = append(known, &difference{path: compile(t, where, "^(?:"+path+")$"), reason: strings.TrimSpace(reason)})
		}
	}
	return known
}

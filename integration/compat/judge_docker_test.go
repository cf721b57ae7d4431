//go:build docker

package compat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// note is one call of a program and what it was told: a step whose answer is
// there already.
type note struct {
	step
	answer
}

// program uses a cluster through some client, and writes down what it is told.
type program func(t *testing.T, d *side) ([]note, error)

// TestOtherClientsAnswerAsWithSwarm runs one program for each client on both
// clusters. Each cleans up behind it: they share the two labs.
func TestOtherClientsAnswerAsWithSwarm(t *testing.T) {
	for _, argv := range [][]string{{"/usr/bin/python3", "-c", "import docker"}, {"docker-compose", "version"}} {
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s (make setup installs what is missing)", argv, err, out)
		}
	}
	swarm, shoal := sides(t)
	path := clients(t)["28."]
	swarm.env["DOCKER"], shoal.env["DOCKER"] = path, path
	known := readDifferences(t, "testdata/differences.txt", "testdata/clients/differences.txt")
	compareTables(t, swarm, shoal, "testdata/clients/form.txt", known)
	t.Run("go", func(t *testing.T) { comparePrograms(t, swarm, shoal, goProgram, known) })
	t.Run("python", func(t *testing.T) { comparePrograms(t, swarm, shoal, pythonProgram, known) })
	t.Run("compose", func(t *testing.T) { compareTables(t, swarm, shoal, "testdata/clients/compose.txt", known) })
}

func compareTables(t *testing.T, swarm, shoal *side, pattern string, known []*difference) {
	t.Helper()
	steps := readTable(t, pattern)
	a := &answers{swarm: swarm, shoal: shoal}
	var both sync.WaitGroup
	both.Go(func() { a.ofSwarm = swarm.runAll(t.Context(), steps) })
	both.Go(func() { a.ofShoal = shoal.runAll(t.Context(), steps) })
	both.Wait()
	a.check(t, pattern, steps, known)
}

func comparePrograms(t *testing.T, swarm, shoal *side, run program, known []*difference) {
	t.Helper()
	var a, b []note
	var failedA, failedB error
	var both sync.WaitGroup
	both.Go(func() { a, failedA = run(t, swarm) })
	both.Go(func() { b, failedB = run(t, shoal) })
	both.Wait()
	if failedA != nil || failedB != nil || len(a) != len(b) {
		t.Errorf("Swarm's program ended after %d calls (%v), shoal's after %d (%v)", len(a), failedA, len(b), failedB)
	}
	given := &answers{swarm: swarm, shoal: shoal}
	var steps []step
	for i := range min(len(a), len(b)) {
		if a[i].where != b[i].where {
			t.Fatalf("call %d is %q to Swarm and %q to shoal", i, a[i].where, b[i].where)
		}
		steps = append(steps, b[i].step)
		given.ofSwarm = append(given.ofSwarm, a[i].answer)
		given.ofShoal = append(given.ofShoal, b[i].answer)
	}
	given.check(t, t.Name(), steps, known)
}

// pythonProgram is testdata/clients/sdk.py with Debian's python3-docker. It prints one
// line of JSON for each call.
func pythonProgram(t *testing.T, d *side) ([]note, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/clients/sdk.py")
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.sockets[0])
	for name, value := range d.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	notes, wrong := readNotes(t, out)
	return notes, errors.Join(err, wrong)
}

func readNotes(t *testing.T, out []byte) ([]note, error) {
	t.Helper()
	var notes []note
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var said struct {
			Step   string          `json:"step"`
			Result json.RawMessage `json:"result"`
			Error  string          `json:"error"`
			How    []string        `json:"how"`
		}
		if err := d.Decode(&said); err != nil {
			return notes, err
		}
		n := newNote(t, said.Step, said.How)
		n.out, n.err = string(said.Result), said.Error
		notes = append(notes, n)
	}
	return notes, nil
}

// newNote reads the directives of how, which are those of the tables.
func newNote(t *testing.T, name string, how []string) note {
	t.Helper()
	n := note{step: step{where: name}}
	for _, line := range how {
		parseDirective(t, name, &n.step, line)
	}
	return n
}

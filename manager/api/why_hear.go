package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"shoal/internal/plain"
	"shoal/raftstore/state"
)

// maxLine is as much of a line of output as a person reads, in bytes.
const maxLine = 400

// Testimony is what a container, and the engine that has it, tell of an end.
type Testimony struct {
	Task    string    `json:",omitempty"` // whose container it is
	Output  []string  `json:",omitempty"` // its last lines
	Health  []Checkup `json:",omitempty"` // its last failed health checks, the oldest first
	OOM     bool      `json:",omitempty"` // the kernel has killed it, or a part of it, for lack of memory
	Missing []string  `json:",omitempty"` // what could not be told, and why
}

// Checkup is a health check that failed.
type Checkup struct {
	At       time.Time
	ExitCode int
	Output   string
	Times    int `json:",omitempty"` // in a row, if more than once
}

// hear adds what the container tells that out is about. A node that does not
// answer costs a line.
func (a *API) hear(ctx context.Context, v *state.View, out *finding) {
	t := out.about
	if t == nil || t.Status.ContainerID == "" || t.NodeID == "" || a.config.Witness == nil {
		return
	}
	said := a.config.Witness(ctx, t)
	said.Task = TaskName(v, t)
	for i, line := range said.Output {
		said.Output[i] = plain.Line(line, maxLine)
	}
	for i := range said.Health {
		c := &said.Health[i]
		c.Output = strings.Join(plain.Lines(c.Output, maxLine), "\n")
	}
	if said.OOM {
		out.Evidence = append(out.Evidence, fmt.Sprintf("the kernel has killed processes of task %s for lack of memory", said.Task))
	}
	out.Container = &said
}

package format

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// Revision is an accepted spec of a service, as the API tells it.
type Revision struct {
	Number     uint64
	CreatedAt  time.Time
	Current    bool
	Previous   bool
	RollbackTo uint64
	Tasks      int
	Spec       swarm.ServiceSpec
}

// History is the revisions of a service, newest first.
type History struct {
	ServiceID, Name string
	Revisions       []Revision
}

// RevisionRow is a line of `service history`.
type RevisionRow struct {
	Changed, CreatedAt, CreatedSince, ID, Image, Note, Tasks string
}

// RevisionTable is the table of `service history`.
func RevisionTable() Table {
	return Table{
		Default: "{{.ID}}\t{{.CreatedSince}}\t{{.Image}}\t{{.Tasks}}\t{{.Changed}}\t{{.Note}}",
		Headers: map[string]string{
			"ID": "REVISION", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Image": "IMAGE", "Tasks": "TASKS", "Changed": "CHANGED", "Note": "NOTE",
		},
	}
}

// RevisionRows makes the rows of a history.
func RevisionRows(h History, now time.Time) []RevisionRow {
	rows := make([]RevisionRow, 0, len(h.Revisions))
	for i, r := range h.Revisions {
		row := RevisionRow{
			ID: strconv.FormatUint(r.Number, 10), CreatedSince: Ago(r.CreatedAt, now), CreatedAt: r.CreatedAt.UTC().Format(time.RFC3339),
			Tasks: strconv.Itoa(r.Tasks), Note: r.note(),
		}
		if c := r.Spec.TaskTemplate.ContainerSpec; c != nil {
			row.Image = Image(c.Image)
		}
		if i+1 < len(h.Revisions) {
			row.Changed = changed(h.Revisions[i+1].Spec, r.Spec)
		}
		rows = append(rows, row)
	}
	return rows
}

func (r Revision) note() string {
	var notes []string
	if r.Current {
		notes = append(notes, "current")
	}
	if r.Previous {
		notes = append(notes, "previous")
	}
	if r.RollbackTo != 0 {
		notes = append(notes, fmt.Sprintf("rollback to %d", r.RollbackTo))
	}
	return strings.Join(notes, ", ")
}

// changed names the fields that differ, each by the last part of its path.
func changed(from, to swarm.ServiceSpec) string {
	const most = 3
	var names []string
	for _, l := range diff(from, to) {
		path, _, _ := strings.Cut(l.path, "[")
		name := path[strings.LastIndexByte(path, '.')+1:]
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if n := len(names) - most; n > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", n))
	}
	return strings.Join(names, ", ")
}

// WriteDiff prints what a service's spec has lost and got between two
// revisions, a line for each value.
func WriteDiff(w io.Writer, service string, from, to Revision) error {
	if _, err := fmt.Fprintf(w, "service %s: revision %d to %d\n", service, from.Number, to.Number); err != nil {
		return err
	}
	for _, l := range diff(from.Spec, to.Spec) {
		if _, err := fmt.Fprintf(w, "%c %s: %s\n", l.sign, l.path, l.value); err != nil {
			return err
		}
	}
	return nil
}

// line is one value of a spec, that only one of two has.
type line struct {
	path  string
	sign  byte // '-' or '+'
	value string
}

// diff compares two specs value by value: fields by their paths, the words of
// a list as a set, its objects by their place.
func diff(from, to swarm.ServiceSpec) (lines []line) {
	count := map[line]int{}
	for _, side := range []struct {
		spec swarm.ServiceSpec
		sign int
	}{{from, -1}, {to, +1}} {
		raw, err := json.Marshal(side.spec)
		if err != nil {
			continue // a spec that came as JSON is JSON
		}
		var v any
		if json.Unmarshal(raw, &v) != nil {
			continue
		}
		flatten("", v, func(path, value string) { count[line{path: path, value: value}] += side.sign })
	}
	for l, n := range count {
		if l.sign = '+'; n < 0 {
			l.sign = '-'
		}
		if n != 0 {
			lines = append(lines, l)
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		if c := strings.Compare(a.path, b.path); c != 0 {
			return c
		}
		if a.sign != b.sign {
			return int(b.sign) - int(a.sign) // '-' is the larger
		}
		return strings.Compare(a.value, b.value)
	})
	return lines
}

// flatten yields the plain values inside v, with their paths.
func flatten(path string, v any, yield func(path, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			at := k
			if path != "" {
				at = path + "." + k
			}
			flatten(at, inner, yield)
		}
	case []any:
		for i, inner := range v {
			at := path
			switch inner.(type) {
			case map[string]any, []any:
				at = fmt.Sprintf("%s[%d]", path, i)
			}
			flatten(at, inner, yield)
		}
	case nil:
	case string:
		yield(path, v)
	case float64:
		yield(path, strconv.FormatFloat(v, 'f', -1, 64))
	default:
		yield(path, fmt.Sprint(v))
	}
}

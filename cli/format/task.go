package format

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// TaskRow is a line of `service ps` and `node ps`.
type TaskRow struct {
	CurrentState, DesiredState, Error, ID, Image, Name, Node, Ports string
}

// Tasks is the table of `service ps` and `node ps`.
func Tasks() Table {
	return Table{
		Default: "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}",
		Headers: map[string]string{
			"ID": "ID", "Name": "NAME", "Image": "IMAGE", "Node": "NODE", "DesiredState": "DESIRED STATE",
			"CurrentState": "CURRENT STATE", "Error": "ERROR", "Ports": "PORTS",
		},
	}
}

// TaskView is how TaskRows shows tasks.
type TaskView struct {
	Trunc  bool
	Indent bool // mark older tasks of a slot, as tables do
	Now    time.Time
	// Service and Node give names for IDs.
	Service, Node func(id string) string
}

// TaskRows makes rows in natural order of their names, the newest task of a
// slot first.
func TaskRows(tasks []swarm.Task, v TaskView) []TaskRow {
	type named struct {
		swarm.Task
		full string
	}
	list := make([]named, 0, len(tasks))
	for _, t := range tasks {
		place := t.NodeID
		if t.Slot != 0 {
			place = fmt.Sprint(t.Slot)
		}
		list = append(list, named{t, v.Service(t.ServiceID) + "." + place})
	}
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].full != list[j].full {
			return NaturalLess(list[i].full, list[j].full)
		}
		return list[j].CreatedAt.Before(list[i].CreatedAt)
	})
	rows := make([]TaskRow, 0, len(list))
	previous := ""
	for _, t := range list {
		r := v.row(t.Task)
		r.Name = t.full
		if v.Indent && t.full == previous {
			r.Name = ` \_ ` + t.full
		}
		previous = t.full
		rows = append(rows, r)
	}
	return rows
}

func (v TaskView) row(t swarm.Task) TaskRow {
	const errWidth = 30
	r := TaskRow{
		ID: t.ID, Node: v.Node(t.NodeID), DesiredState: Title(string(t.DesiredState)),
		CurrentState: Title(string(t.Status.State)) + " " + Ago(t.Status.Timestamp, v.Now),
	}
	if t.Spec.ContainerSpec != nil {
		r.Image = t.Spec.ContainerSpec.Image
	}
	text := t.Status.Err
	if v.Trunc {
		r.ID, r.Image, text = TruncateID(r.ID), Image(r.Image), Ellipsis(text, errWidth)
	}
	r.Error = Quote(text)
	var published []string
	for _, p := range t.Status.PortStatus.Ports {
		published = append(published, fmt.Sprintf("*:%d->%d/%s", p.PublishedPort, p.TargetPort, p.Protocol))
	}
	r.Ports = strings.Join(published, ",")
	return r
}

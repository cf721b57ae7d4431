package format

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"
)

// ServiceRow is a line of `service ls`.
type ServiceRow struct {
	ID, Image, Mode, Name, Ports, Replicas string
}

// Services is the table of `service ls`.
func Services() Table {
	return Table{
		Default: "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
		Headers: map[string]string{"ID": "ID", "Name": "NAME", "Mode": "MODE", "Replicas": "REPLICAS", "Image": "IMAGE", "Ports": "PORTS"},
	}
}

// ServiceRows makes rows in natural order of their names.
func ServiceRows(services []swarm.Service, trunc bool) []ServiceRow {
	sorted := append([]swarm.Service(nil), services...)
	sort.SliceStable(sorted, func(i, j int) bool { return NaturalLess(sorted[i].Spec.Name, sorted[j].Spec.Name) })
	rows := make([]ServiceRow, 0, len(sorted))
	for _, s := range sorted {
		r := ServiceRow{ID: s.ID, Name: s.Spec.Name, Mode: mode(s.Spec.Mode), Replicas: replicas(s), Ports: ports(s.Endpoint.Ports)}
		if c := s.Spec.TaskTemplate.ContainerSpec; c != nil {
			r.Image = c.Image
		}
		if trunc {
			r.ID, r.Image = TruncateID(r.ID), Image(r.Image)
		}
		rows = append(rows, r)
	}
	return rows
}

func mode(m swarm.ServiceMode) string {
	switch {
	case m.Global != nil:
		return "global"
	case m.Replicated != nil:
		return "replicated"
	case m.ReplicatedJob != nil:
		return "replicated job"
	case m.GlobalJob != nil:
		return "global job"
	}
	return ""
}

func replicas(s swarm.Service) string {
	var st swarm.ServiceStatus
	if s.ServiceStatus != nil {
		st = *s.ServiceStatus
	}
	text := fmt.Sprintf("%d/%d", st.RunningTasks, st.DesiredTasks)
	m := s.Spec.Mode
	switch {
	case m.ReplicatedJob != nil:
		var total uint64
		if m.ReplicatedJob.TotalCompletions != nil {
			total = *m.ReplicatedJob.TotalCompletions
		}
		return fmt.Sprintf("%s (%d/%d completed)", text, st.CompletedTasks, total)
	case m.GlobalJob != nil:
		return fmt.Sprintf("%s (%d/%d completed)", text, st.CompletedTasks, st.DesiredTasks+st.CompletedTasks)
	case m.Replicated != nil && s.Spec.TaskTemplate.Placement != nil && s.Spec.TaskTemplate.Placement.MaxReplicas > 0:
		return fmt.Sprintf("%s (max %d per node)", text, s.Spec.TaskTemplate.Placement.MaxReplicas)
	}
	return text
}

// portRange is a run of published ports: many to one, or one to one.
type portRange struct {
	pub, pubEnd, target, targetEnd uint32
	protocol                       swarm.PortConfigProtocol
}

func (r portRange) String() string {
	return fmt.Sprintf("*:%s->%s/%s", span(r.pub, r.pubEnd), span(r.target, r.targetEnd), r.protocol)
}

func span(from, to uint32) string {
	if to > from {
		return fmt.Sprintf("%d-%d", from, to)
	}
	return strconv.FormatUint(uint64(from), 10)
}

// ports folds the ingress ports into ranges: *:80-81->80-81/tcp.
func ports(list []swarm.PortConfig) string {
	sorted := append([]swarm.PortConfig(nil), list...)
	sort.SliceStable(sorted, func(i, j int) bool {
		if sorted[i].Protocol != sorted[j].Protocol {
			return sorted[i].Protocol < sorted[j].Protocol
		}
		return sorted[i].PublishedPort < sorted[j].PublishedPort
	})
	var out []string
	var r portRange
	for _, p := range sorted {
		if p.PublishMode != swarm.PortConfigPublishModeIngress {
			continue
		}
		oneToOne := r.targetEnd != r.target
		follows := p.Protocol == r.protocol && p.PublishedPort-r.pubEnd <= 1 && p.TargetPort-r.targetEnd <= 1
		if follows && (!oneToOne || p.TargetPort > r.targetEnd) {
			r.pubEnd, r.targetEnd = p.PublishedPort, p.TargetPort
			continue
		}
		if r.pub > 0 {
			out = append(out, r.String())
		}
		r = portRange{p.PublishedPort, p.PublishedPort, p.TargetPort, p.TargetPort, p.Protocol}
	}
	if r.pub > 0 {
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Diagnosis is what is known of the whole cluster once all nodes were asked.
type Diagnosis struct {
	Nodes    []NodeHealth  `json:"nodes"`
	Pairs    []Pair        `json:"pairs"`    // both ways
	Findings []NodeFinding `json:"findings"` // what is not well, worst first
}

// NodeHealth is a node in short.
type NodeHealth struct {
	NodeID      string        `json:"nodeID"`
	Name        string        `json:"name"`
	Reached     bool          `json:"reached"`
	Offset      time.Duration `json:"offset"` // of its clock from the leader's
	Audited     bool          `json:"audited"`
	Compared    int           `json:"compared"` // things in its kernel that were compared with what should be
	Differences []string      `json:"differences"`
	Checks      int           `json:"checks"` // that were made
}

// Pair is the way from one node to another, by name.
type Pair struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	RTT     time.Duration `json:"rtt"`
	MTU     int           `json:"mtu"`
	MeshRTT time.Duration `json:"meshRTT"`
	MeshMTU int           `json:"meshMTU"`
	HasMesh bool          `json:"hasMesh"`
	Error   string        `json:"error,omitempty"`
}

// NodeFinding is a finding on a node.
type NodeFinding struct {
	Node string `json:"node"` // its name
	Finding
}

// Bad reports whether something does not work.
func (d Diagnosis) Bad() bool {
	return slices.ContainsFunc(d.Findings, func(f NodeFinding) bool { return f.Level == Bad })
}

// Asked is a node with its answer.
type Asked struct {
	Peer
	Name         string
	Began, Ended time.Time // of the question, on the leader's clock
	Report       Report
	Err          error // why there is no report
}

// Differences of clocks: certificates of nodes are backdated by an hour.
const (
	offsetWarn = time.Second
	offsetBad  = time.Minute
)

// Merge puts all answers together. It is pure.
func Merge(asked []Asked) Diagnosis {
	var d Diagnosis
	names := map[string]string{}
	for _, a := range asked {
		names[a.NodeID] = a.Name
	}
	for _, a := range asked {
		add := func(f Finding) {
			if f.Level != OK {
				d.Findings = append(d.Findings, NodeFinding{a.Name, f})
			}
		}
		if a.Err != nil {
			add(a.unreachable(asked))
			d.Nodes = append(d.Nodes, NodeHealth{NodeID: a.NodeID, Name: a.Name})
			continue
		}
		d.Nodes = append(d.Nodes, a.health())
		for _, f := range a.Report.Findings {
			add(f)
		}
		for _, f := range append(a.audit(), a.clock()) {
			add(f)
		}
		for _, l := range a.Report.Links {
			d.Pairs = append(d.Pairs, Pair{
				From: a.Name, To: names[l.NodeID], RTT: l.RTT, MTU: l.MTU, MeshRTT: l.Mesh.RTT, MeshMTU: l.Mesh.MTU, HasMesh: l.HasMesh, Error: l.Error,
			})
			if reached(asked, l.NodeID) { // else one finding says it for all
				add(l.finding(names[l.NodeID]))
			}
		}
	}
	slices.SortStableFunc(d.Findings, func(a, b NodeFinding) int {
		return cmp.Or(strings.Compare(string(a.Level), string(b.Level)), strings.Compare(a.Node, b.Node)) // bad before warn
	})
	return d
}

func reached(asked []Asked, nodeID string) bool {
	return slices.ContainsFunc(asked, func(a Asked) bool { return a.NodeID == nodeID && a.Err == nil })
}

// unreachable says who else reaches a node that the leader does not.
func (a Asked) unreachable(asked []Asked) Finding {
	others, reach := 0, 0
	for _, o := range asked {
		for _, l := range o.Report.Links {
			if o.Err == nil && l.NodeID == a.NodeID {
				others++
				if l.RTT > 0 {
					reach++
				}
			}
		}
	}
	f := Finding{"reachable", Bad, fmt.Sprintf("the leader does not reach %s: %v; %d of %d other nodes do", a.Addr, a.Err, reach, others), "see that the node is up and shoal runs on it"}
	if reach > 0 {
		f.Remedy = "see which firewall or route is between it and the leader"
	}
	return f
}

func (a Asked) health() NodeHealth {
	r := a.Report
	return NodeHealth{
		NodeID: a.NodeID, Name: a.Name, Reached: true, Offset: a.offset(), Audited: r.Audited, Compared: r.Compared,
		Differences: r.Differences, Checks: len(r.Findings),
	}
}

// offset is how far the node's clock is ahead of the leader's, as NTP computes
// it: what the node took for its answer does not count.
func (a Asked) offset() time.Duration {
	return (a.Report.Received.Sub(a.Began) + a.Report.Sent.Sub(a.Ended)) / 2
}

func (a Asked) clock() Finding {
	off, level := a.offset(), OK
	switch {
	case off.Abs() >= offsetBad:
		level = Bad
	case off.Abs() >= offsetWarn:
		level = Warn
	}
	return Finding{"clock", level, fmt.Sprintf("differs from the leader's by %s", off.Round(time.Millisecond)), "run chrony, ntpd or systemd-timesyncd on all nodes"}
}

func (a Asked) audit() (found []Finding) {
	r := a.Report
	switch {
	case !r.Audited:
		found = append(found, Finding{"data plane", Warn, "this node has none that could be compared with what should be", "upgrade shoal on it"})
	case r.AuditError != "":
		found = append(found, Finding{"data plane", Bad, r.AuditError, "see the log of shoal on that node"})
	}
	if n := len(r.Differences); n > 0 {
		const shown = 3
		text := strings.Join(r.Differences[:min(n, shown)], "; ")
		if n > shown {
			text += fmt.Sprintf("; and %d more", n-shown)
		}
		found = append(found, Finding{"data plane", Warn, fmt.Sprintf("%d of %d differed and were repaired: %s", n, r.Compared, text), "see what else changes the kernel's network there, if it comes again"})
	}
	return found
}

// finding says what is wrong with the way to a peer, the first thing that is.
func (l Link) finding(peer string) Finding {
	check := "to " + peer
	switch {
	case l.Error != "":
		return Finding{check, Bad, "no connection: " + l.Error, "open the cluster's port (2377/tcp) between the nodes"}
	case l.HasMesh && l.Mesh.RTT == 0:
		return Finding{check, Bad, "nothing comes back through the mesh", "open VXLAN's port (4789/udp) between the nodes, in firewalls and security groups too"}
	case l.HasMesh && l.Mesh.MTU < l.LocalMTU:
		return Finding{check, Bad, fmt.Sprintf("packets of %d bytes get through the mesh, of %d do not", l.Mesh.MTU, l.LocalMTU), fmt.Sprintf("raise the MTU of the links between the nodes, or make networks with --opt com.docker.network.driver.mtu=%d", l.Mesh.MTU)}
	}
	return ok(check, "%s", l.RTT)
}

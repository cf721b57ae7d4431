package format

import (
	"reflect"
	"sort"

	"github.com/docker/docker/api/types/swarm"
)

// NodeRow is a line of `node ls`.
type NodeRow struct {
	Availability, EngineVersion, Hostname, ID, ManagerStatus string
	Self                                                     bool
	Status, TLSStatus                                        string
}

// Nodes is the table of `node ls`.
func Nodes() Table {
	return Table{
		Default: "{{.ID}} {{if .Self}}*{{else}} {{ end }}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}",
		Headers: map[string]string{
			"ID": "ID", "Self": "", "Hostname": "HOSTNAME", "Status": "STATUS", "Availability": "AVAILABILITY",
			"ManagerStatus": "MANAGER STATUS", "EngineVersion": "ENGINE VERSION", "TLSStatus": "TLS STATUS",
		},
	}
}

// NodeRows makes rows in natural order of host names. cluster is nil where it
// is not known.
func NodeRows(nodes []swarm.Node, self string, cluster *swarm.ClusterInfo) []NodeRow {
	sorted := append([]swarm.Node(nil), nodes...)
	sort.SliceStable(sorted, func(i, j int) bool {
		return NaturalLess(sorted[i].Description.Hostname, sorted[j].Description.Hostname)
	})
	rows := make([]NodeRow, 0, len(sorted))
	for _, n := range sorted {
		r := NodeRow{
			ID: n.ID, Self: n.ID == self, Hostname: n.Description.Hostname, Status: Title(string(n.Status.State)),
			Availability: Title(string(n.Spec.Availability)), EngineVersion: n.Description.Engine.EngineVersion,
			TLSStatus: tlsStatus(n, cluster),
		}
		if m := n.ManagerStatus; m != nil {
			r.ManagerStatus = Title(string(m.Reachability))
			if m.Leader {
				r.ManagerStatus = "Leader"
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func tlsStatus(n swarm.Node, cluster *swarm.ClusterInfo) string {
	var none swarm.TLSInfo
	switch {
	case cluster == nil || reflect.DeepEqual(cluster.TLSInfo, none) || reflect.DeepEqual(n.Description.TLSInfo, none):
		return "Unknown"
	case reflect.DeepEqual(n.Description.TLSInfo, cluster.TLSInfo):
		return "Ready"
	}
	return "Needs Rotation"
}

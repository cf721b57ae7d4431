package format

import (
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/network"
)

// NetworkRow is a line of `network ls`.
type NetworkRow struct {
	CreatedAt, Driver, ID, IPv4, IPv6, Internal, Labels, Name, Scope string

	labels map[string]string
}

// Label is the value of one label.
func (r *NetworkRow) Label(key string) string { return r.labels[key] }

// Networks is the table of `network ls`.
func Networks() Table {
	return Table{
		Default: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
		Headers: map[string]string{
			"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
			"Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
		},
	}
}

// NetworkRows makes rows in natural order of their names.
func NetworkRows(networks []network.Summary, trunc bool) []NetworkRow {
	sorted := append([]network.Summary(nil), networks...)
	sort.SliceStable(sorted, func(i, j int) bool { return NaturalLess(sorted[i].Name, sorted[j].Name) })
	rows := make([]NetworkRow, 0, len(sorted))
	for _, n := range sorted {
		r := NetworkRow{
			ID: n.ID, Name: n.Name, Driver: n.Driver, Scope: n.Scope, CreatedAt: n.Created.String(), labels: n.Labels,
			IPv4: strconv.FormatBool(n.EnableIPv4), IPv6: strconv.FormatBool(n.EnableIPv6), Internal: strconv.FormatBool(n.Internal),
		}
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
			labels = append(labels, k+"="+n.Labels[k])
		}
		r.Labels = strings.Join(labels, ",")
		if trunc {
			r.ID = TruncateID(r.ID)
		}
		rows = append(rows, r)
	}
	return rows
}

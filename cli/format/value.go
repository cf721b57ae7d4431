package format

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"
)

// SecretRow is a line of `secret ls`.
type SecretRow struct {
	CreatedAt, Driver, ID, Labels, Name, UpdatedAt string

	labels map[string]string
}

// Label is the value of one label.
func (r *SecretRow) Label(key string) string { return r.labels[key] }

// ConfigRow is a line of `config ls`.
type ConfigRow struct {
	CreatedAt, ID, Labels, Name, UpdatedAt string

	labels map[string]string
}

// Label is the value of one label.
func (r *ConfigRow) Label(key string) string { return r.labels[key] }

func valueHeaders() map[string]string {
	return map[string]string{
		"ID": "ID", "Name": "NAME", "Driver": "DRIVER", "CreatedAt": "CREATED", "UpdatedAt": "UPDATED", "Labels": "LABELS",
		"Version": "VERSION", "Services": "SERVICES",
	}
}

// Secrets is the table of `secret ls`.
func Secrets() Table {
	return Table{Default: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}", Headers: valueHeaders()}
}

// Configs is the table of `config ls`.
func Configs() Table {
	return Table{Default: "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}", Headers: valueHeaders()}
}

// Versions is the table of `secret versions` and `config versions`.
func Versions() Table {
	return Table{Default: "{{.Version}}\t{{.ID}}\t{{.CreatedAt}}\t{{.Services}}", Headers: valueHeaders()}
}

// SecretRows makes rows in natural order of their names.
func SecretRows(secrets []swarm.Secret, now time.Time) []SecretRow {
	sorted := slices.Clone(secrets)
	sort.SliceStable(sorted, func(i, j int) bool { return NaturalLess(sorted[i].Spec.Name, sorted[j].Spec.Name) })
	rows := make([]SecretRow, 0, len(sorted))
	for _, s := range sorted {
		r := SecretRow{
			ID: s.ID, Name: s.Spec.Name, CreatedAt: ago(s.CreatedAt, now), UpdatedAt: ago(s.UpdatedAt, now),
			Labels: joinLabels(s.Spec.Labels), labels: s.Spec.Labels,
		}
		if s.Spec.Driver != nil {
			r.Driver = s.Spec.Driver.Name
		}
		rows = append(rows, r)
	}
	return rows
}

// ConfigRows makes rows in natural order of their names.
func ConfigRows(configs []swarm.Config, now time.Time) []ConfigRow {
	sorted := slices.Clone(configs)
	sort.SliceStable(sorted, func(i, j int) bool { return NaturalLess(sorted[i].Spec.Name, sorted[j].Spec.Name) })
	rows := make([]ConfigRow, 0, len(sorted))
	for _, c := range sorted {
		rows = append(rows, ConfigRow{
			ID: c.ID, Name: c.Spec.Name, CreatedAt: ago(c.CreatedAt, now), UpdatedAt: ago(c.UpdatedAt, now),
			Labels: joinLabels(c.Spec.Labels), labels: c.Spec.Labels,
		})
	}
	return rows
}

// ago is Ago as these lists have it: "About an hour ago".
func ago(t, now time.Time) string { return units.HumanDuration(now.Sub(t)) + " ago" }

func joinLabels(labels map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, k+"="+labels[k])
	}
	return strings.Join(pairs, ",")
}

// ValueVersion is a version of a secret or config, as /shoal/v1 lists it.
type ValueVersion struct {
	ID        string
	Version   uint64
	CreatedAt time.Time
	Services  []string
}

// VersionRow is a line of `secret versions`.
type VersionRow struct{ CreatedAt, ID, Services, Version string }

// VersionRows makes rows in the given order.
func VersionRows(versions []ValueVersion, now time.Time) []VersionRow {
	rows := make([]VersionRow, 0, len(versions))
	for _, v := range versions {
		rows = append(rows, VersionRow{
			CreatedAt: ago(v.CreatedAt, now), ID: v.ID, Services: strings.Join(v.Services, ", "), Version: strconv.FormatUint(v.Version, 10),
		})
	}
	return rows
}

// PrettySecret prints a secret as `secret inspect --pretty` does.
func PrettySecret(w io.Writer, s swarm.Secret) {
	driver := ""
	if s.Spec.Driver != nil {
		driver = s.Spec.Driver.Name
	}
	prettyValue(w, "              ", s.ID, s.Spec.Annotations)
	fmt.Fprintf(w, "Driver:            %s\nCreated at:        %s\nUpdated at:        %s\n", driver, Title(s.CreatedAt.String()), Title(s.UpdatedAt.String()))
}

// PrettyConfig prints a config as `config inspect --pretty` does.
func PrettyConfig(w io.Writer, c swarm.Config) {
	prettyValue(w, "\t\t\t", c.ID, c.Spec.Annotations)
	fmt.Fprintf(w, "Created at:            \t%s\nUpdated at:            \t%s\nData:\n%s\n", Title(c.CreatedAt.String()), Title(c.UpdatedAt.String()), c.Spec.Data)
}

func prettyValue(w io.Writer, gap, id string, a swarm.Annotations) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("ID:%s%s", gap, id)
	p("Name:%s%s", gap, a.Name)
	if len(a.Labels) > 0 {
		p("Labels:")
		labels(p, " - ", a.Labels)
	}
}

package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"
	timestamp "github.com/docker/docker/api/types/time"

	"shoal/raftstore/state"
)

// NetworkFilter is what a list of networks is restricted to, as the engine
// reads it: names and ids are patterns.
type NetworkFilter struct {
	filter
	dangling *bool
}

// ParseNetworkFilter reads the filters of a query.
func ParseNetworkFilter(query url.Values) (f NetworkFilter, err error) {
	if f.filter, err = decodeFilters(query.Get("filters"), "dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return f, err
	}
	for _, kind := range f.values("type") {
		if kind != "custom" && kind != "builtin" {
			return f, invalid("invalid filter: 'type'='%s'", kind)
		}
	}
	if values := f.values("dangling"); len(values) > 0 {
		dangling, err := strconv.ParseBool(values[0])
		if err != nil || len(values) > 1 {
			return f, invalid("invalid filter 'dangling=%v'", values)
		}
		f.dangling = &dangling
	}
	return f, nil
}

// Match reports whether a network is one of those. used says that something
// is on it.
func (f NetworkFilter) Match(n network.Summary, used bool) bool {
	kind := "custom"
	if state.Predefined(n.Name) {
		kind = "builtin"
	}
	dangling := !used && kind == "custom"
	return f.args.Match("name", n.Name) && f.args.Match("id", n.ID) && f.exact("driver", n.Driver) && f.exact("scope", n.Scope) &&
		f.exact("type", kind) && f.labels("label", n.Labels) && (f.dangling == nil || *f.dangling == dangling)
}

// PruneFilter is which unused networks are to be removed.
type PruneFilter struct {
	filter
	until time.Time // zero: no matter how old
}

// ParsePruneFilter reads the filters of a query that was asked at now.
func ParsePruneFilter(query url.Values, now time.Time) (f PruneFilter, err error) {
	if f.filter, err = decodeFilters(query.Get("filters"), "label", "label!", "until"); err != nil {
		return f, err
	}
	values := f.values("until")
	switch len(values) {
	case 0:
		return f, nil
	case 1:
	default:
		return f, invalid("more than one until filter specified")
	}
	text, err := timestamp.GetTimestamp(values[0], now)
	if err != nil {
		return f, invalid("invalid until filter %q: %v", values[0], err)
	}
	seconds, nanos, err := timestamp.ParseTimestamps(text, 0)
	if err != nil {
		return f, invalid("invalid until filter %q: %v", values[0], err)
	}
	f.until = time.Unix(seconds, nanos)
	return f, nil
}

// Match reports whether a network is one of those.
func (f PruneFilter) Match(created time.Time, labels map[string]string) bool {
	if !f.until.IsZero() && created.After(f.until) || !f.labels("label", labels) {
		return false
	}
	unwanted := func(label string) bool {
		key, want, _ := strings.Cut(label, "=")
		have, ok := labels[key]
		return ok && (want == "" || want == have)
	}
	return !slices.ContainsFunc(f.values("label!"), unwanted)
}

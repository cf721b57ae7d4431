package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/filters"
)

// filter is what a list is restricted to. Values of one key are alternatives,
// except for labels, which must all be there; keys must all match.
type filter struct {
	args filters.Args
}

func parseFilters(r *http.Request, accepted ...string) (filter, error) {
	return decodeFilters(r.URL.Query().Get("filters"), accepted...)
}

func decodeFilters(text string, accepted ...string) (filter, error) {
	args, err := filters.FromJSON(text)
	if err != nil {
		return filter{}, invalid("%v", err)
	}
	keys := args.Keys()
	slices.Sort(keys)
	for _, k := range keys {
		if !slices.Contains(accepted, k) {
			return filter{}, invalid("invalid filter '%s'", k)
		}
	}
	return filter{args}, nil
}

// has reports whether the filter restricts key at all.
func (f filter) has(key string) bool { return len(f.values(key)) > 0 }

// values are the values given for key, sorted.
func (f filter) values(key string) []string {
	values := f.args.Get(key)
	slices.Sort(values)
	return values
}

// exact reports whether value is one of those given.
func (f filter) exact(key, value string) bool {
	values := f.args.Get(key)
	return len(values) == 0 || slices.Contains(values, value)
}

// prefix reports whether value begins with one of those given.
func (f filter) prefix(key, value string) bool {
	values := f.args.Get(key)
	return len(values) == 0 || slices.ContainsFunc(values, func(p string) bool { return strings.HasPrefix(value, p) })
}

// labels reports whether labels hold every "k" and "k=v" that was given.
func (f filter) labels(key string, labels map[string]string) bool {
	for _, want := range f.args.Get(key) {
		k, v, _ := strings.Cut(want, "=")
		have, ok := labels[k]
		if !ok || v != "" && v != have {
			return false
		}
	}
	return true
}

// fuzzy reports whether one of the values given is equal to, or begins, one of
// the candidates: how events are filtered.
func (f filter) fuzzy(key string, candidates ...string) bool {
	return slices.ContainsFunc(candidates, func(c string) bool { return f.prefix(key, c) })
}

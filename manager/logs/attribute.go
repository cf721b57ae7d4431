package logs

import (
	"net/url"
	"slices"
	"strings"

	"shoal/raftstore/state"
)

// attributes are what the docker CLI reads of a line to know whose it is: keys
// and values, escaped, in order.
type attributes []string

const attributePrefix = "com.docker.swarm."

func attributesOf(t *state.Task) attributes {
	a := make(attributes, 0, 3)
	for _, pair := range [][2]string{{"node.id", t.NodeID}, {"service.id", t.ServiceID}, {"task.id", t.ID}} {
		a = append(a, url.QueryEscape(attributePrefix+pair[0])+"="+url.QueryEscape(pair[1]))
	}
	return a
}

// merge adds those that an engine tells. Ours win.
func (a attributes) merge(engine []byte) []byte {
	all := slices.Clone(a)
	for part := range strings.SplitSeq(string(engine), ",") {
		key, _, _ := strings.Cut(part, "=")
		if part != "" && !slices.ContainsFunc(a, func(own string) bool { return strings.HasPrefix(own, key+"=") }) {
			all = append(all, part)
		}
	}
	slices.Sort(all)
	return []byte(strings.Join(all, ","))
}

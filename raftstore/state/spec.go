package state

import (
	"bytes"
	"encoding/json"

	"github.com/docker/docker/api/types/swarm"
)

// Difference is what separates two specs of a service, as far as it matters to
// a task. Names, labels of the service, credentials, scale and update settings
// do not.
type Difference int

// The differences, in order.
const (
	DiffersNot Difference = iota
	DiffersInPlacement
	Differs
)

// CompareSpecs says whether tasks made to spec a serve for spec b. Empty and
// absent values are the same, so that posting a spec again changes nothing.
func CompareSpecs(a, b *swarm.ServiceSpec) Difference {
	strip := func(s *swarm.ServiceSpec) any {
		task := s.TaskTemplate
		task.Placement = nil
		return struct {
			Task     swarm.TaskSpec
			Endpoint *swarm.EndpointSpec             `json:",omitempty"`
			Networks []swarm.NetworkAttachmentConfig `json:",omitempty"`
		}{task, s.EndpointSpec, s.Networks} //nolint:staticcheck // old clients still set it
	}
	switch {
	case !SameJSON(strip(a), strip(b)):
		return Differs
	case !SameJSON(a.TaskTemplate.Placement, b.TaskTemplate.Placement):
		return DiffersInPlacement
	}
	return DiffersNot
}

// SameJSON reports whether two values are the same in JSON, where what is empty
// counts as absent.
func SameJSON(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	if errA != nil || errB != nil {
		return false
	}
	return bytes.Equal(x, y) || bytes.Equal(withoutEmpty(x), withoutEmpty(y))
}

// withoutEmpty is JSON without empty objects, lists and nulls.
func withoutEmpty(text []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return text
	}
	out, err := json.Marshal(prune(v))
	if err != nil {
		return text
	}
	return out
}

// prune drops what is empty from objects; lists keep their length.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if inner = prune(inner); inner == nil {
				delete(v, k)
			} else {
				v[k] = inner
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

package node

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"
)

// containerSpec is the body of a container's creation. Only what is about
// networks is looked at; the rest is passed on as it came.
type containerSpec struct {
	body, host map[string]json.RawMessage
	networking map[string]json.RawMessage
	mode       string // HostConfig.NetworkMode
	endpoints  map[string]*network.EndpointSettings
	places     map[string]*place // by the reference that named the network
}

func readContainer(body []byte) (*containerSpec, error) {
	s := &containerSpec{}
	if err := json.Unmarshal(body, &s.body); err != nil {
		return nil, err
	}
	for field, into := range map[string]any{"HostConfig": &s.host, "NetworkingConfig": &s.networking} {
		if err := unmarshalField(s.body, field, into); err != nil {
			return nil, err
		}
	}
	if err := unmarshalField(s.host, "NetworkMode", &s.mode); err != nil {
		return nil, err
	}
	return s, unmarshalField(s.networking, "EndpointsConfig", &s.endpoints)
}

func unmarshalField(from map[string]json.RawMessage, field string, into any) error {
	if raw, ok := from[field]; ok {
		return json.Unmarshal(raw, into)
	}
	return nil
}

// networks are the references to networks, that of the mode first.
func (s *containerSpec) networks() (refs []string) {
	if s.mode != "" {
		refs = append(refs, s.mode)
	}
	for _, ref := range slices.Sorted(maps.Keys(s.endpoints)) {
		if ref != s.mode {
			refs = append(refs, ref)
		}
	}
	return refs
}

// macAddress is the one of old clients, for all networks.
func (s *containerSpec) macAddress() (mac string) {
	_ = unmarshalField(s.body, "MacAddress", &mac) // another type: the engine says so
	return mac
}

// encode writes the body with the halves in place of the cluster's networks.
func (s *containerSpec) encode(places []*place, version string) ([]byte, error) {
	endpoints := map[string]*network.EndpointSettings{}
	for ref, e := range s.endpoints {
		if p := s.places[ref]; p == nil {
			endpoints[ref] = e
		}
	}
	for ref, p := range s.places {
		endpoints[p.engineID] = p.endpoint(s.endpoints[ref])
	}
	if p := s.places[s.mode]; p != nil {
		if err := setField(&s.host, "NetworkMode", p.engineID); err != nil {
			return nil, err
		}
		// Where an endpoint's own is not looked at yet.
		if newer("1.44", version) {
			if err := setField(&s.body, "MacAddress", p.endpoint(nil).MacAddress); err != nil {
				return nil, err
			}
		}
	}
	var dns []string
	_ = unmarshalField(s.host, "Dns", &dns) // another type: the engine says so
	if len(dns) == 0 {
		if err := setField(&s.host, "Dns", []string{places[0].Gateway.String()}); err != nil {
			return nil, err
		}
	}
	if err := s.label(places); err != nil {
		return nil, err
	}
	if err := setField(&s.networking, "EndpointsConfig", endpoints); err != nil {
		return nil, err
	}
	if err := setField(&s.body, "HostConfig", s.host); err != nil {
		return nil, err
	}
	if err := setField(&s.body, "NetworkingConfig", s.networking); err != nil {
		return nil, err
	}
	return json.Marshal(s.body)
}

func (s *containerSpec) label(places []*place) error {
	labels := map[string]string{}
	if err := unmarshalField(s.body, "Labels", &labels); err != nil {
		return invalid("invalid Labels: %v", err)
	}
	if labels == nil { // null
		labels = map[string]string{}
	}
	var ids []string
	for _, p := range places {
		ids = append(ids, p.ID)
	}
	labels[labelAttachment] = strings.Join(ids, ",")
	return setField(&s.body, "Labels", labels)
}

func setField(in *map[string]json.RawMessage, field string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if *in == nil {
		*in = map[string]json.RawMessage{}
	}
	(*in)[field] = raw
	return nil
}

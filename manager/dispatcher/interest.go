package dispatcher

import (
	"maps"
	"reflect"
	"slices"

	"shoal/raftstore/state"
	"shoal/worker/assignment"
)

// ids is a set of ids.
type ids map[string]bool

func (s ids) has(id string) bool { return s[id] }

// fabricMail is what of the fabric a session has to tell its worker: ids of
// what may have changed. What it comes to is rendered when the line is written,
// so that any number of changes may come together.
type fabricMail struct {
	full, config                         bool
	peers, networks, services, endpoints ids
}

func (m *fabricMail) empty() bool {
	return !m.full && !m.config && len(m.peers)+len(m.networks)+len(m.services)+len(m.endpoints) == 0
}

// touch notes that the thing with an id may have changed.
func touch(set *ids, id string) {
	if *set == nil {
		*set = ids{}
	}
	(*set)[id] = true
}

// fabricLocked leaves in the sessions' mail what events mean for what their
// nodes must know of the fabric. h.view is the view after the events.
func (h *hub) fabricLocked(events []state.Event) {
	nodes := ids{} // whose interest may have changed
	for _, e := range events {
		switch e.Object().(type) {
		case *state.Task:
			older, _ := e.Old.(*state.Task)
			newer, _ := e.New.(*state.Task)
			h.taskLocked(older, newer, nodes)
		case *state.Attachment:
			older, _ := e.Old.(*state.Attachment)
			newer, _ := e.New.(*state.Attachment)
			h.attachmentLocked(older, newer, nodes)
		case *state.Service:
			older, _ := e.Old.(*state.Service)
			newer, _ := e.New.(*state.Service)
			h.serviceLocked(older, newer)
		case *state.Node:
			older, _ := e.Old.(*state.Node)
			newer, _ := e.New.(*state.Node)
			h.peerLocked(older, newer)
		case *state.Network:
			older, _ := e.Old.(*state.Network)
			newer, _ := e.New.(*state.Network)
			h.networkLocked(older, newer, nodes)
		case *state.Cluster:
			h.configLocked()
		}
	}
	// Last: a node that is on a network no more must hear of what ended there
	// until now.
	for id := range nodes {
		h.interestLocked(id)
	}
}

// each calls f for the sessions that a thing concerns: those on one of the
// networks, or all.
func (h *hub) each(all bool, networks []string, f func(*session)) {
	if all {
		for _, s := range h.sessions {
			f(s)
			s.wakeUp()
		}
		return
	}
	for _, id := range networks {
		for s := range h.onNetwork[id] {
			f(s)
			s.wakeUp()
		}
	}
}

// taskLocked compares a task with what it was. Whether its node is up does not
// count here: that may have changed in the same stroke, and has its own event.
func (h *hub) taskLocked(older, newer *state.Task, nodes ids) {
	var networks []string
	var seen [2]assignment.Endpoint
	var had [2]bool
	everywhere := false
	id := ""
	for i, t := range []*state.Task{older, newer} {
		if t == nil || len(t.Networks) == 0 {
			continue
		}
		id = t.ID
		nodes[t.NodeID] = true
		if had[i] = present(t); had[i] {
			var published bool
			seen[i], published = describeTask(h.view, t)
			everywhere = everywhere || published
			networks = append(networks, networksOfTask(h.view, t)...)
		}
	}
	if id == "" || had[0] == had[1] && reflect.DeepEqual(seen[0], seen[1]) {
		return
	}
	h.each(everywhere, networks, func(s *session) { touch(&s.mail.fabric.endpoints, id) })
}

func (h *hub) attachmentLocked(older, newer *state.Attachment, nodes ids) {
	for _, a := range []*state.Attachment{older, newer} {
		if a == nil {
			continue
		}
		nodes[a.NodeID] = true
		h.each(false, networksOfAttachment(h.view, a), func(s *session) { touch(&s.mail.fabric.endpoints, a.ID) })
	}
}

func (h *hub) serviceLocked(older, newer *state.Service) {
	was, published, had := serviceOf(older)
	is, publishes, has := serviceOf(newer)
	if had == has && reflect.DeepEqual(was, is) {
		return
	}
	var networks []string
	for _, n := range slices.Concat(was.Networks, is.Networks) {
		networks = append(networks, n.NetworkID)
	}
	id := was.ID + is.ID
	if had && has {
		id = is.ID
	}
	h.each(published || publishes, networks, func(s *session) { touch(&s.mail.fabric.services, id) })
}

func (h *hub) peerLocked(older, newer *state.Node) {
	was, had := peerOf(older)
	is, has := peerOf(newer)
	id := ""
	if older != nil {
		id = older.ID
	} else {
		id = newer.ID
	}
	if had != has || !reflect.DeepEqual(was, is) {
		h.each(true, nil, func(s *session) { touch(&s.mail.fabric.peers, id) })
	}
	if older != nil && up(older) == up(newer) {
		return
	}
	for t := range h.view.TasksOfNode(id) {
		if len(t.Networks) == 0 || !present(t) {
			continue
		}
		h.each(onIngress(h.view, t), networksOfTask(h.view, t), func(s *session) { touch(&s.mail.fabric.endpoints, t.ID) })
	}
	for a := range h.view.AttachmentsOfNode(id) {
		h.each(false, networksOfAttachment(h.view, a), func(s *session) { touch(&s.mail.fabric.endpoints, a.ID) })
	}
}

func onIngress(v *state.View, t *state.Task) bool {
	id := ingressOf(v)
	return slices.ContainsFunc(t.Networks, func(n state.TaskNetwork) bool { return n.NetworkID == id })
}

func (h *hub) networkLocked(older, newer *state.Network, nodes ids) {
	n := newer
	if n == nil {
		n = older
	}
	if n.Spec.Ingress {
		// What is on ingress, and so everywhere, is read differently from now on.
		h.each(true, nil, func(s *session) {
			s.mail.fabric = fabricMail{full: true}
			nodes[s.nodeID] = true
		})
		return
	}
	h.each(false, []string{n.ID}, func(s *session) { touch(&s.mail.fabric.networks, n.ID) })
}

func (h *hub) configLocked() {
	config := configOf(h.view)
	if reflect.DeepEqual(config, h.config) {
		return
	}
	h.config = config
	h.each(true, nil, func(s *session) { s.mail.fabric.config = true })
}

// interestLocked brings the networks that a node's session must know up to
// date, and notes what it has to be told of those that came and went.
func (h *hub) interestLocked(nodeID string) {
	s := h.sessions[nodeID]
	if s == nil {
		return
	}
	on := ids{}
	for id := range networksOfNode(h.view, nodeID) {
		on[id] = true
	}
	if maps.Equal(on, s.on) {
		return
	}
	for id := range on {
		if !s.on[id] {
			h.joinLocked(s, id)
		}
	}
	for id := range s.on {
		if !on[id] {
			h.touchNetworkLocked(s, id)
			delete(h.onNetwork[id], s)
		}
	}
	s.on = on
	s.wakeUp()
}

func (h *hub) joinLocked(s *session, networkID string) {
	if h.onNetwork[networkID] == nil {
		h.onNetwork[networkID] = map[*session]bool{}
	}
	h.onNetwork[networkID][s] = true
	h.touchNetworkLocked(s, networkID)
}

// touchNetworkLocked notes all that is on a network. What has ended meanwhile
// is told by its own event.
func (h *hub) touchNetworkLocked(s *session, id string) {
	m := &s.mail.fabric
	touch(&m.networks, id)
	for svc := range h.view.ServicesOfNetwork(id) {
		touch(&m.services, svc.ID)
	}
	for t := range h.view.TasksOfNetwork(id) {
		touch(&m.endpoints, t.ID)
	}
	for a := range h.view.AttachmentsOfNetwork(id) {
		touch(&m.endpoints, a.ID)
	}
}

// watchLocked begins, unwatchLocked ends, to keep a session's interest.
func (h *hub) watchLocked(s *session) {
	s.on = ids{}
	for id := range networksOfNode(h.view, s.nodeID) {
		s.on[id] = true
		if h.onNetwork[id] == nil {
			h.onNetwork[id] = map[*session]bool{}
		}
		h.onNetwork[id][s] = true
	}
	s.mail.fabric = fabricMail{full: true}
}

func (h *hub) unwatchLocked(s *session) {
	for id := range s.on {
		delete(h.onNetwork[id], s)
		if len(h.onNetwork[id]) == 0 {
			delete(h.onNetwork, id)
		}
	}
}

// render writes down what a session has to tell of the fabric; nil: nothing.
func (m fabricMail) render(v *state.View, on ids) *assignment.Fabric {
	if m.empty() {
		return nil
	}
	s := scope{view: v, ingress: ingressOf(v), on: on}
	if m.full {
		m = s.everything()
	}
	f := &assignment.Fabric{Full: m.full}
	if m.full || m.config {
		config := configOf(v)
		f.Config = &config
	}
	var gone assignment.Gone
	f.Peers, gone.Peers = rendered(m.peers, func(id string) (assignment.Peer, bool) { return peerOf(v.Node(id)) })
	f.Networks, gone.Networks = rendered(m.networks, s.network)
	f.Services, gone.Services = rendered(m.services, s.service)
	f.Endpoints, gone.Endpoints = rendered(m.endpoints, s.endpoint)
	if !m.full && len(gone.Peers)+len(gone.Networks)+len(gone.Services)+len(gone.Endpoints) > 0 {
		f.Gone = &gone
	}
	return f
}

func rendered[T any](touched ids, render func(string) (T, bool)) (list []T, gone []string) {
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		if x, ok := render(id); ok {
			list = append(list, x)
		} else {
			gone = append(gone, id)
		}
	}
	return list, gone
}

// everything touches all that the node must know.
func (s scope) everything() fabricMail {
	m := fabricMail{full: true, peers: ids{}, networks: ids{}, services: ids{}, endpoints: ids{}}
	for n := range s.view.Nodes() {
		m.peers[n.ID] = true
	}
	for svc := range s.view.ServicesPublished() {
		m.services[svc.ID] = true
	}
	networks := slices.Collect(maps.Keys(s.on))
	if s.ingress != "" {
		networks = append(networks, s.ingress)
	}
	for _, id := range networks {
		m.networks[id] = true
		for svc := range s.view.ServicesOfNetwork(id) {
			m.services[svc.ID] = true
		}
		for t := range s.view.TasksOfNetwork(id) {
			m.endpoints[t.ID] = true
		}
		for a := range s.view.AttachmentsOfNetwork(id) {
			m.endpoints[a.ID] = true
		}
	}
	return m
}

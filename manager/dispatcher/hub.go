package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/worker/assignment"
)

// Why a session ends.
var (
	errStopping = fmt.Errorf("manager is stopping: %w", errdefs.ErrUnavailable)
	errReplaced = errors.New("the node has opened another session")
	errRemoved  = errors.New("the node was removed from the cluster")
	errFenced   = fmt.Errorf("manager does not reach the leader: %w", errdefs.ErrUnavailable)
	errSilent   = errors.New("the worker is silent")
)

// hub knows the sessions of this manager and leaves in each one's mail what a
// change of the state means for it. Its work is proportional to the change.
type hub struct {
	mu       sync.Mutex
	serving  bool
	view     *state.View   // what the sessions' mail is complete up to
	moved    chan struct{} // closed when view moves on
	managers []assignment.Manager
	keys     [][]byte
	sessions map[string]*session // by node
	// onNetwork are the sessions whose node is on a cluster network.
	onNetwork map[string]map[*session]bool
	config    assignment.FabricConfig
	ramp      *ramp
	alive     []Alive // scratch
}

// mail is what a session has to tell its worker.
type mail struct {
	tasks    delta
	ended    []string // tasks that need no secrets and configs any more
	full     bool     // tasks of the whole view instead
	managers bool
	keys     bool
	role     bool
	ack      uint64
	fabric   fabricMail
}

func newHub() *hub {
	return &hub{sessions: map[string]*session{}, onNetwork: map[string]map[*session]bool{}, moved: make(chan struct{})}
}

func (h *hub) open(v *state.View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving = true
	h.view, h.managers, h.keys, h.config, h.ramp = v, managersOf(v), keysOf(v), configOf(v), newRamp(v)
}

// close ends all sessions and takes no more.
func (h *hub) close(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving = false
	for _, s := range h.sessions {
		s.end(cause)
	}
}

// shed ends all sessions for now.
func (h *hub) shed(cause error) (ended int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		s.end(cause)
	}
	return len(h.sessions)
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// pullsWaiting counts the nodes that wait for their turn to pull.
func (h *hub) pullsWaiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ramp == nil {
		return 0
	}
	return h.ramp.waiting()
}

// advance moves on to v and tells the sessions concerned.
func (h *hub) advance(v *state.View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v == h.view {
		return
	}
	events, ok := v.Since(h.view.Index())
	h.view = v
	close(h.moved)
	h.moved = make(chan struct{})
	if !ok {
		h.startOverLocked()
		return
	}
	n := newsOf(events)
	for nodeID, d := range n.deltas {
		if s := h.sessions[nodeID]; s != nil {
			s.mail.merge(d)
			s.wakeUp()
		}
	}
	for nodeID, ended := range n.ended {
		if s := h.sessions[nodeID]; s != nil {
			s.mail.ended = append(s.mail.ended, ended...)
			s.wakeUp()
		}
	}
	for nodeID, node := range n.nodes {
		h.nodeLocked(nodeID, node)
	}
	h.fabricLocked(events)
	h.releaseLocked(h.ramp.advance(v, events))
	if n.cluster {
		h.clusterLocked()
	}
}

// releaseLocked tells the nodes of tasks that they may pull.
func (h *hub) releaseLocked(taskIDs []string) {
	for _, id := range taskIDs {
		t := h.view.Task(id)
		if t == nil {
			continue
		}
		if s := h.sessions[t.NodeID]; s != nil {
			s.mail.merge(delta{id: t})
			s.wakeUp()
		}
	}
}

// startOverLocked is for a view whose way here is not known.
func (h *hub) startOverLocked() {
	h.ramp = newRamp(h.view)
	for nodeID, s := range h.sessions {
		s.mail.tasks, s.mail.full = nil, true
		h.unwatchLocked(s)
		h.watchLocked(s)
		s.wakeUp()
		h.nodeLocked(nodeID, h.view.Node(nodeID))
	}
	h.clusterLocked()
}

func (h *hub) nodeLocked(nodeID string, n *state.Node) {
	s := h.sessions[nodeID]
	if s == nil {
		return
	}
	if n == nil {
		s.end(errRemoved)
		return
	}
	if n.Spec.Role != s.desired {
		s.desired, s.mail.role = n.Spec.Role, true
		s.wakeUp()
	}
}

func (h *hub) clusterLocked() {
	managers, keys := managersOf(h.view), keysOf(h.view)
	newManagers := !slices.Equal(managers, h.managers)
	newKeys := !sameKeys(keys, h.keys)
	h.managers, h.keys = managers, keys
	if !newManagers && !newKeys {
		return
	}
	for _, s := range h.sessions {
		s.mail.managers = s.mail.managers || newManagers
		s.mail.keys = s.mail.keys || newKeys
		s.wakeUp()
	}
}

func (m *mail) merge(d delta) {
	if m.full {
		return // the view will tell
	}
	if m.tasks == nil {
		m.tasks = delta{}
	}
	maps.Copy(m.tasks, d)
}

// attach registers a session once this replica knows its node and is no
// older than what the worker has seen, and puts into its mail what the worker
// lacks. A session of the same node is replaced. A worker that stays ahead of
// the leader itself has seen a state that is no more, before the cluster was
// restored from a backup: it gets everything.
func (h *hub) attach(ctx context.Context, s *session) error {
	for {
		h.mu.Lock()
		if !h.serving {
			h.mu.Unlock()
			return errStopping
		}
		n := h.view.Node(s.nodeID)
		if n != nil && h.view.Index() >= s.hello.Index {
			h.registerLocked(s, n)
			h.mu.Unlock()
			return nil
		}
		moved := h.moved
		h.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			if n != nil && s.d.leading() {
				s.hello.Index = 0
				continue
			}
			return fmt.Errorf("manager's state lags behind: %w", errdefs.ErrUnavailable)
		}
	}
}

func (h *hub) registerLocked(s *session, n *state.Node) {
	if old := h.sessions[s.nodeID]; old != nil {
		old.end(errReplaced)
		h.unwatchLocked(old)
	}
	h.sessions[s.nodeID] = s
	s.desired = n.Spec.Role
	// A session outlives its certificate: this holds at its beginning only, and
	// every later change of the role is told.
	renew := string(s.desired) != s.role
	s.mail = mail{managers: true, keys: true, role: renew, full: s.hello.Index == 0}
	if !s.mail.full {
		s.mail.tasks = resume(h.view, s.nodeID, s.hello.Index, s.hello.Managed)
		h.repeatLocked(s)
	}
	h.watchLocked(s)
}

// repeatLocked tells a worker again of the tasks that may pull: that it may, it
// could have missed.
func (h *hub) repeatLocked(s *session) {
	for t := range h.view.TasksOfNode(s.nodeID) {
		if _, waits := h.ramp.tasks[t.ID]; waits && t.Status.State < taskstate.Ready && !h.ramp.held(t.ID) {
			s.mail.tasks[t.ID] = t
		}
	}
}

// detach forgets a session; it reports false if it had been replaced.
func (h *hub) detach(s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.nodeID] != s {
		return false
	}
	delete(h.sessions, s.nodeID)
	h.unwatchLocked(s)
	return true
}

// ack tells a worker that its statuses are committed up to seq.
func (h *hub) ack(s *session, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mail.ack = max(s.mail.ack, seq)
	s.wakeUp()
}

// refuse ends the sessions that the leader does not want.
func (h *hub) refuse(refused []Refusal) (ended []Refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range refused {
		if s := h.sessions[r.NodeID]; s != nil && s.hello.Boot == r.Boot {
			s.end(refusedError(r))
			ended = append(ended, r)
		}
	}
	return ended
}

// signs returns the newest sign of life of every session. The slice is valid
// until the next call.
func (h *hub) signs() []Alive {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive = h.alive[:0]
	for _, s := range h.sessions {
		h.alive = append(h.alive, Alive{NodeID: s.nodeID, Boot: s.hello.Boot, Age: max(0, s.age())})
	}
	return h.alive
}

// take empties a session's mail into the next line. The specs that the line
// carries are marked in s.sent and the values in s.shelf, which only the
// session's writer touches.
func (h *hub) take(s *session) assignment.Down {
	h.mu.Lock()
	m, v, on := s.mail, h.view, s.on
	s.mail = mail{}
	var line assignment.Down
	if m.managers {
		line.Managers = h.managers
	}
	if m.keys {
		line.GossipKeys = h.keys
	}
	if m.role {
		line.Role = s.desired
	}
	if m.full {
		m.tasks = resume(v, s.nodeID, 0, nil)
	}
	held := ids{}
	for id := range m.tasks {
		if h.ramp.held(id) {
			held[id] = true
		}
	}
	h.mu.Unlock()
	line.Ack = m.ack
	line.Index = v.Index()
	line.Full = m.full
	touched := ids{}
	for id := range m.tasks {
		touched[id] = true
	}
	for _, id := range m.ended {
		touched[id] = true
	}
	m.tasks.write(v, &line, s.sent, held)
	s.shelf.write(v, s.nodeID, &line, touched, m.full)
	line.Fabric = m.fabric.render(v, on)
	return line
}

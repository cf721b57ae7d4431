package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/goleak"

	"shoal/internal/taskstate"
	"shoal/manager/dispatcher"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
	"shoal/worker/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is managers and workers on one state, over connections in memory. All
// of it lives in one synctest bubble.
type lab struct {
	t        testing.TB
	store    *statetest.Store
	net      *network
	managers map[string]*manager
	workers  []*worker
	dead     sync.Map // node id: gossip calls it dead

	mu     sync.Mutex
	leader *manager
}

func newLab(t testing.TB, managers int, objs ...state.Object) *lab {
	l := &lab{t: t, store: statetest.New(objs...), net: &network{listeners: map[string]*listener{}, cut: map[string]bool{}}, managers: map[string]*manager{}}
	for i := range managers {
		l.startManager(fmt.Sprintf("m%d", i+1))
	}
	l.lead("m1")
	return l
}

// close ends everything, so that the bubble can end.
func (l *lab) close() {
	for _, w := range l.workers {
		w.stop()
	}
	for id := range l.managers {
		l.kill(id)
	}
}

// testLog is shown for failed tests and with -v.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type manager struct {
	id     string
	d      *dispatcher.Dispatcher
	server *http.Server
	cancel context.CancelFunc
	resign context.CancelFunc
	wg     sync.WaitGroup
	term   sync.WaitGroup
}

func (l *lab) startManager(id string) {
	m := &manager{id: id}
	d, err := dispatcher.New(dispatcher.Config{
		NodeID: id, Store: l.store, Log: testLog(l.t),
		// The connection's remote address names the node: see network.dial.
		Identity: func(r *http.Request) (string, string, bool) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			return host, "worker", err == nil && host != "nobody"
		},
		Forward: func(ctx context.Context, b dispatcher.Batch) (dispatcher.Answer, error) {
			leader := l.leading()
			if leader == nil {
				return dispatcher.Answer{}, errors.New("no leader")
			}
			if l.net.isCut(id) || l.net.isCut(leader.id) {
				<-ctx.Done()
				return dispatcher.Answer{}, ctx.Err()
			}
			return leader.d.Report(ctx, b)
		},
		Presence: func(nodeID string) bool { _, dead := l.dead.Load(nodeID); return dead },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	m.d = d
	m.server = &http.Server{Handler: d, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Second}
	m.server.Protocols.SetUnencryptedHTTP2(true)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	listener := l.net.listen(id)
	m.wg.Go(func() { _ = m.server.Serve(listener) })
	m.wg.Go(func() { _ = d.Serve(ctx) })
	l.managers[id] = m
}

// kill ends a manager at once: its connections break.
func (l *lab) kill(id string) {
	m := l.managers[id]
	delete(l.managers, id)
	if l.leading() == m {
		l.lead("")
	}
	l.net.remove(id)
	_ = m.server.Close()
	m.cancel()
	m.wg.Wait()
}

func (l *lab) leading() *manager {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

// lead makes a manager the leader, "" nobody.
func (l *lab) lead(id string) {
	l.mu.Lock()
	old := l.leader
	l.leader = nil
	l.mu.Unlock()
	if old != nil {
		old.resign()
		old.term.Wait()
	}
	if id == "" {
		return
	}
	m := l.managers[id]
	ctx, cancel := context.WithCancel(context.Background())
	m.resign = cancel
	m.term.Go(func() { _ = m.d.Run(ctx) })
	synctest.Wait()
	l.mu.Lock()
	l.leader = m
	l.mu.Unlock()
}

// worker is a node whose executor only keeps the set of its tasks.
type worker struct {
	*session.Session
	node   string
	cancel context.CancelFunc
	wg     sync.WaitGroup
	opens  atomic.Int32
	fulls  atomic.Int32

	mu      sync.Mutex
	index   uint64
	tasks   map[string]assignment.Task
	noSpec  int
	keys    [][]byte
	roles   []swarm.NodeRole
	refused error
	known   assignment.Known
	values  map[string]assignment.Value
	faults  []string
	stuck   bool   // its data plane takes nothing in
	newest  uint64 // index of the newest line
}

// start starts a daemon on a node; it holds what last held, if not nil.
func (l *lab) start(node, boot string, last *worker) *worker {
	w := &worker{node: node, tasks: map[string]assignment.Task{}, values: map[string]assignment.Value{}}
	if last != nil {
		w.index, w.tasks = last.index, maps.Clone(last.tasks) // but no values: they are on no disk
	}
	s, err := session.New(session.Config{
		NodeID: node, Boot: boot, Addr: ":2377", Log: slog.New(slog.DiscardHandler),
		Managers: l.addrs,
		Dial:     func(ctx context.Context, addr string) (net.Conn, error) { return l.net.dial(ctx, node, addr) },
		Describe: func(context.Context) (swarm.NodeDescription, error) {
			return swarm.NodeDescription{Hostname: node}, nil
		},
		Held: w.held, Apply: w.apply, Values: w.valueIDs,
		OnGossipKeys: func(k [][]byte) { w.mu.Lock(); w.keys = k; w.mu.Unlock() },
		OnRole:       func(r swarm.NodeRole) { w.mu.Lock(); w.roles = append(w.roles, r); w.mu.Unlock() },
		OnRefused:    func(err error) { w.mu.Lock(); w.refused = err; w.mu.Unlock() },
		OnSession: func(open bool) {
			if open {
				w.opens.Add(1)
			}
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	w.Session = s
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.wg.Go(func() { _ = s.Run(ctx) })
	l.workers = append(l.workers, w)
	return w
}

func (w *worker) stop() {
	w.cancel()
	w.wg.Wait()
}

func (l *lab) addrs() (list []assignment.Manager) {
	for _, id := range []string{"m1", "m2", "m3"} {
		list = append(list, assignment.Manager{NodeID: id, Addr: id + ":2377"})
	}
	return list
}

func (w *worker) held() (uint64, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index, slices.Collect(maps.Keys(w.tasks))
}

func (w *worker) apply(d assignment.Down) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.Full {
		w.fulls.Add(1)
		clear(w.tasks)
	}
	for _, value := range d.Values {
		if _, known := w.values[value.ID]; known {
			w.faults = append(w.faults, "value "+value.ID+" came twice")
		}
		w.values[value.ID] = value
	}
	for _, id := range d.Forget {
		if _, known := w.values[id]; !known {
			w.faults = append(w.faults, "value "+id+" was to be forgotten, and never came")
		}
		delete(w.values, id)
	}
	for _, t := range d.Tasks {
		if t.Spec == nil {
			w.noSpec++
		}
		w.tasks[t.ID] = t
	}
	for _, id := range d.Remove {
		delete(w.tasks, id)
	}
	w.index = max(w.index, d.Index)
	if d.Fabric != nil {
		w.known = w.known.With(*d.Fabric)
	}
	if d.Index > 0 {
		w.newest = d.Index
	}
	if !w.stuck {
		w.Applied(w.newest)
	}
	return nil
}

// stick makes the worker's data plane take nothing in, or all at once again.
func (w *worker) stick(stuck bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stuck = stuck; !stuck {
		w.Applied(w.newest)
	}
}

// serving lists the endpoints to which the worker sends something new.
func (w *worker) serving() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []string{}
	for id, e := range w.known.Endpoints {
		if e.Serving {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// has returns the worker's tasks as "id desired".
func (w *worker) has() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []string{}
	for id, t := range w.tasks {
		list = append(list, id+" "+t.Desired.String())
	}
	slices.Sort(list)
	return list
}

func (w *worker) valueIDs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.values))
}

// wantsValues returns the ids of the secrets and configs that tasks of a node
// need as long as they may run.
func (l *lab) wantsValues(node string) []string {
	v, need := l.store.View(), map[string]bool{}
	for t := range v.TasksOfNode(node) {
		if t.Status.State < taskstate.Assigned || t.Status.State.Terminal() || t.Desired >= taskstate.Shutdown {
			continue
		}
		c := v.Revision(t.ServiceID, t.Revision).Spec.TaskTemplate.ContainerSpec
		for _, s := range c.Secrets {
			need[s.SecretID] = true
		}
		for _, s := range c.Configs {
			need[s.ConfigID] = true
		}
	}
	return slices.Sorted(maps.Keys(need))
}

// wants returns what the state wants of a node, in the form of has.
func (l *lab) wants(node string) []string {
	list := []string{}
	for t := range l.store.View().TasksOfNode(node) {
		if t.Status.State >= taskstate.Assigned && t.Status.State < taskstate.Orphaned {
			list = append(list, t.ID+" "+t.Desired.String())
		}
	}
	slices.Sort(list)
	return list
}

func (l *lab) checkSet(w *worker) {
	l.t.Helper()
	if got, want := w.has(), l.wants(w.node); !slices.Equal(got, want) {
		l.t.Errorf("worker %s has %v, want %v", w.node, got, want)
	}
}

func (l *lab) checkNode(id string, want swarm.NodeState) {
	l.t.Helper()
	if got := l.store.View().Node(id).Status; got.State != want {
		l.t.Errorf("node %s is %s (%s), want %s", id, got.State, got.Message, want)
	}
}

// settle lets d pass and everything come to rest.
func settle(d time.Duration) {
	time.Sleep(d) // virtual time
	synctest.Wait()
}

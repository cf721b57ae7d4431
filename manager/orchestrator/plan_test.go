package orchestrator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// describe writes a service's tasks, a line each: slot, node or slot's node,
// revision, desired and observed state. New tasks are called new.
func describe(v *state.View, service string) (lines []string) {
	for t := range v.TasksOfService(service) {
		node := t.NodeID
		if node == "" {
			node = "-"
		}
		lines = append(lines, fmt.Sprintf("%d %s r%d %v/%v", t.Slot, node, t.Revision, t.Desired, t.Status.State))
	}
	slices.Sort(lines)
	return lines
}

// settle plans a service until there is nothing more to do, and checks that
// one more plan plans nothing.
func settle(t *testing.T, store *statetest.Store, service string) (due time.Time) {
	t.Helper()
	n := 0
	ids := func() string { n++; return fmt.Sprintf("new%06d-%d", n, store.Updates()) }
	for range 200 {
		out := plan(store.View(), service, time.Now(), ids, chunk)
		if len(out.changes) > chunk {
			t.Fatalf("%d changes in one plan", len(out.changes))
		}
		if len(out.changes) == 0 {
			if out.more {
				t.Fatal("a plan without changes says that there are more")
			}
			return out.due
		}
		store.Apply(out.changes...)
		if !out.more {
			if again := plan(store.View(), service, time.Now(), ids, chunk); len(again.changes) > 0 {
				t.Fatalf("the plan after a plan has %d changes: %v", len(again.changes), describe(store.View(), service))
			}
			return out.due
		}
	}
	t.Fatal("plans go on and on")
	return due
}

// svc puts a service "web" with one revision for each of the specs given, the
// last being current.
func svc(replicas uint64, changes ...func(*swarm.ServiceSpec)) []state.Object {
	s, first := statetest.Service("web", replicas)
	objs := []state.Object{first}
	for i, change := range changes {
		previous := s.Spec
		s.PreviousSpec, s.PreviousRevision = &previous, s.Revision
		container := *s.Spec.TaskTemplate.ContainerSpec
		s.Spec.TaskTemplate.ContainerSpec = &container
		change(&s.Spec)
		s.Revision = uint64(i) + 2
		objs = append(objs, &state.Revision{ServiceID: "web", Number: s.Revision, Spec: s.Spec})
	}
	return append(objs, s)
}

// gentle sets a node's availability to drain, so that successors start first.
func gentle(n *state.Node) { n.Spec.Availability, n.StartFirst = swarm.NodeAvailabilityDrain, true }

func image(name string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = name }
}

func constraints(c ...string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement = &swarm.Placement{Constraints: c} }
}

func condition(c swarm.RestartPolicyCondition) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: c}
	}
}

func startFirst(s *swarm.ServiceSpec) {
	s.UpdateConfig = &swarm.UpdateConfig{Order: swarm.UpdateOrderStartFirst, Parallelism: 1}
}

func both(changes ...func(*swarm.ServiceSpec)) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		for _, c := range changes {
			c(s)
		}
	}
}

func attempts(n uint64) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{MaxAttempts: &n} }
}

func because(text string) func(*state.Task) {
	return func(t *state.Task) { t.Status.Err = text }
}

func restarted(n uint64) func(*state.Task) {
	return func(t *state.Task) { t.Restarts.Count = n }
}

func networks(targets ...string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = nil
		for _, target := range targets {
			s.TaskTemplate.Networks = append(s.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: target})
		}
	}
}

func ports(mode swarm.PortConfigPublishMode) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishMode: mode}}}
	}
}

func task(id string, slot int, node string, options ...func(*state.Task)) *state.Task {
	return statetest.Task(id, "web", slot, node, options...)
}

func rev(n uint64) func(*state.Task) { return func(t *state.Task) { t.Revision = n } }

func TestPlan(t *testing.T) {
	observed, desired := statetest.Observed, statetest.Desired
	nodes := func(options ...func(*state.Node)) []state.Object {
		return []state.Object{statetest.Node("n1", options...), statetest.Node("n2")}
	}
	for name, c := range map[string]struct {
		objs []state.Object
		want string // lines of describe
	}{
		"creates pending tasks in the lowest slots": {svc(2), "1 - r1 running/pending; 2 - r1 running/pending"},
		"fills gaps": {
			append(append(svc(3), nodes()...), task("a", 2, "n1"), task("b", 5, "n2")),
			"1 - r1 running/pending; 2 n1 r1 running/running; 5 n2 r1 running/running",
		},
		"nothing to do":         {append(append(svc(1), nodes()...), task("a", 1, "n1")), "1 n1 r1 running/running"},
		"scale to zero removes": {append(append(svc(0), nodes()...), task("a", 1, "n1"), task("b", 1, "n1", desired(taskstate.Shutdown), observed(taskstate.Failed))), "1 n1 r1 remove/failed; 1 n1 r1 remove/running"},
		"deleted service":       {[]state.Object{task("a", 1, "n1"), task("b", 2, "", observed(taskstate.Pending))}, "1 n1 r1 remove/running; 2 - r1 remove/pending"},

		"failed task gets a successor in its slot": {append(append(svc(1), nodes()...), task("a", 1, "n1", observed(taskstate.Failed))), "1 - r1 ready/pending; 1 n1 r1 shutdown/failed"},
		"condition none leaves the slot":           {append(append(svc(1, condition("none")), nodes()...), task("a", 1, "n1", rev(2), observed(taskstate.Failed))), "1 n1 r2 shutdown/failed"},
		"finished slot is not refilled":            {append(append(svc(2, condition("on-failure")), nodes()...), task("a", 1, "n1", rev(2), desired(taskstate.Shutdown), observed(taskstate.Complete)), task("b", 2, "n1", rev(2))), "1 n1 r2 shutdown/complete; 2 n1 r2 running/running"},
		"finished slot with outdated task is":      {append(append(svc(1, condition("on-failure"), image("web:2")), nodes()...), task("a", 1, "n1", rev(2), desired(taskstate.Shutdown), observed(taskstate.Complete))), "1 - r3 running/pending; 1 n1 r2 shutdown/complete"},

		"node down: at once":                             {append(append(svc(1), nodes(statetest.Down)...), task("a", 1, "n1")), "1 - r1 running/pending; 1 n1 r1 shutdown/running"},
		"node drained: prepared while the old one stops": {append(append(svc(1), nodes(statetest.Drained)...), task("a", 1, "n1")), "1 - r1 ready/pending; 1 n1 r1 shutdown/running"},
		"node drained, not yet started":                  {append(append(svc(1), nodes(statetest.Drained)...), task("a", 1, "n1", observed(taskstate.Assigned))), "1 - r1 ready/pending; 1 n1 r1 shutdown/assigned"},
		"node paused":                                    {append(append(svc(1), nodes(statetest.Paused)...), task("a", 1, "n1")), "1 n1 r1 running/running"},
		"node deleted":                                   {append(svc(1), task("a", 1, "n1")), "1 - r1 running/pending; 1 n1 r1 shutdown/running"},
		"orphaned":                                       {append(append(svc(1), nodes()...), task("a", 1, "n1", observed(taskstate.Orphaned))), "1 - r1 running/pending; 1 n1 r1 shutdown/orphaned"},
		"node no longer meets the constraints":           {append(append(svc(1, constraints("node.labels.zone==a")), nodes()...), task("a", 1, "n1", rev(2))), "1 - r2 ready/pending; 1 n1 r2 shutdown/running"},
		"a paused node keeps it":                         {append(append(svc(1, constraints("node.labels.zone==a")), nodes(statetest.Paused)...), task("a", 1, "n1", rev(2))), "1 n1 r2 running/running"},
		"lost node, condition none":                      {append(append(svc(1, condition("none")), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2))), "1 n1 r2 shutdown/running"},
		"an old task of a node that returns":             {append(append(svc(1), nodes()...), task("a", 1, "n1", desired(taskstate.Shutdown)), task("b", 1, "n2")), "1 n1 r1 shutdown/running; 1 n2 r1 running/running"},

		"ready task waits for its predecessor":       {append(append(svc(1), nodes()...), task("a", 1, "n1", desired(taskstate.Shutdown)), task("b", 1, "n2", desired(taskstate.Ready), observed(taskstate.Ready))), "1 n1 r1 shutdown/running; 1 n2 r1 ready/ready"},
		"and starts when that has stopped":           {append(append(svc(1), nodes()...), task("a", 1, "n1", desired(taskstate.Shutdown), observed(taskstate.Shutdown)), task("b", 1, "n2", desired(taskstate.Ready), observed(taskstate.Ready))), "1 n1 r1 shutdown/shutdown; 1 n2 r1 running/ready"},
		"or its node is down":                        {append(append(svc(1), nodes(statetest.Down)...), task("a", 1, "n1", desired(taskstate.Shutdown)), task("b", 1, "n2", desired(taskstate.Ready), observed(taskstate.Ready))), "1 n1 r1 shutdown/running; 1 n2 r1 running/ready"},
		"a predecessor that never had a node is out": {append(append(svc(1), nodes()...), task("a", 1, "", desired(taskstate.Shutdown), observed(taskstate.Pending)), task("b", 1, "n2", desired(taskstate.Ready), observed(taskstate.Ready))), "1 - r1 shutdown/pending; 1 n2 r1 running/ready"},
		"two tasks fill one slot":                    {append(append(svc(1), nodes()...), task("a", 1, "n1", observed(taskstate.Preparing)), task("b", 1, "n2")), "1 n1 r1 shutdown/preparing; 1 n2 r1 running/running"},

		"gentle drain: the old one serves on":      {append(append(svc(1), nodes(gentle)...), task("a", 1, "n1")), "1 - r1 running/pending; 1 n1 r1 running/running"},
		"gentle drain: and stops at last":          {append(append(svc(1), nodes(gentle)...), task("a", 1, "n1"), task("b", 1, "n2")), "1 n1 r1 shutdown/running; 1 n2 r1 running/running"},
		"gentle drain: not in operation yet":       {append(append(svc(1), nodes(gentle)...), task("a", 1, "n1", observed(taskstate.Starting))), "1 - r1 ready/pending; 1 n1 r1 shutdown/starting"},
		"gentle drain in an update":                {append(append(svc(1, image("web:2")), nodes(gentle)...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), observed(taskstate.Starting)), updating()), "1 n1 r1 running/running; 1 n2 r2 running/starting"},
		"start-first drain: the old one serves on": {append(append(svc(1, startFirst), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2))), "1 - r2 running/pending; 1 n1 r2 running/running"},
		"while the new one starts":                 {append(append(svc(1, startFirst), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2), observed(taskstate.Starting))), "1 n1 r2 running/running; 1 n2 r2 running/starting"},
		"and stops when that runs":                 {append(append(svc(1, startFirst), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2))), "1 n1 r2 shutdown/running; 1 n2 r2 running/running"},
		"start-first drain: not serving yet":       {append(append(svc(1, startFirst), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2), observed(taskstate.Starting))), "1 - r2 ready/pending; 1 n1 r2 shutdown/starting"},
		"start-first drain: the node is down":      {append(append(svc(1, startFirst), nodes(statetest.Drained, statetest.Down)...), task("a", 1, "n1", rev(2))), "1 - r2 running/pending; 1 n1 r2 shutdown/running"},
		"start-first drain: and goes down":         {append(append(svc(1, startFirst), nodes(statetest.Drained, statetest.Down)...), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2), observed(taskstate.Starting))), "1 n1 r2 shutdown/running; 1 n2 r2 running/starting"},
		"start-first drain: activated again":       {append(append(svc(1, startFirst), nodes()...), task("a", 1, "n1", rev(2)), task("b", 1, "", rev(2), observed(taskstate.Pending))), "1 - r2 shutdown/pending; 1 n1 r2 running/running"},
		"start-first drain: the new one fails":     {append(append(svc(1, startFirst), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2), observed(taskstate.Failed))), "1 - r2 ready/pending; 1 n1 r2 running/running; 1 n2 r2 shutdown/failed"},
		"start-first drain: the old one fails":     {append(append(svc(1, startFirst), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2), observed(taskstate.Failed)), task("b", 1, "n2", rev(2), observed(taskstate.Starting))), "1 n1 r2 shutdown/failed; 1 n2 r2 running/starting"},
		"start-first drain: no more attempts":      {append(append(svc(1, both(startFirst, attempts(1))), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2), desired(taskstate.Shutdown), observed(taskstate.Failed), restarted(1))), "1 n1 r2 shutdown/running; 1 n2 r2 shutdown/failed"},
		"start-first drain: condition none":        {append(append(svc(1, both(startFirst, condition("none"))), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2))), "1 n1 r2 shutdown/running"},
		"start-first drain: the new node, too":     {append(append(svc(1, startFirst), statetest.Node("n1", statetest.Drained), statetest.Node("n2", statetest.Drained)), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2), observed(taskstate.Starting))), "1 - r2 running/pending; 1 n1 r2 running/running; 1 n2 r2 shutdown/starting"},
		"start-first drain: constraints":           {append(append(svc(1, both(startFirst, constraints("node.id==n2"))), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2))), "1 - r2 ready/pending; 1 n1 r2 shutdown/running"},
		"start-first drain in an update":           {append(append(svc(1, both(image("web:2"), startFirst)), nodes(statetest.Drained)...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), observed(taskstate.Starting)), updating()), "1 n1 r1 running/running; 1 n2 r2 running/starting"},
		"an update in a start-first drain":         {append(append(svc(1, startFirst, image("web:2")), nodes(statetest.Drained)...), task("a", 1, "n1", rev(2)), task("b", 1, "n2", rev(2), observed(taskstate.Starting))), "1 - r3 running/pending; 1 n1 r2 running/running; 1 n2 r2 shutdown/starting"},
		"what an update started on a drained node": {append(append(svc(1, both(image("web:2"), startFirst)), nodes(statetest.Drained)...), task("a", 1, "n2"), task("b", 1, "n1", rev(2), observed(taskstate.Starting)), updating()), "1 - r2 ready/pending; 1 n1 r2 shutdown/starting; 1 n2 r1 running/running"},
		"tasks on networks are new":                {svc(1, networks("net")), "1 - r2 running/new"},
		"so are those that publish ports":          {svc(1, ports(swarm.PortConfigPublishModeIngress)), "1 - r2 running/new"},
		"others need no addresses":                 {svc(1, both(networks("host"), ports(swarm.PortConfigPublishModeHost))), "1 - r2 running/pending"},
		"a restart of a task on networks":          {append(append(svc(1, networks("net")), nodes()...), task("a", 1, "n1", rev(2), observed(taskstate.Failed))), "1 - r2 ready/new; 1 n1 r2 shutdown/failed"},
		"other networks make tasks outdated":       {append(append(svc(1, networks("net"), networks("net", "more")), nodes()...), task("a", 1, "n1", rev(2))), "1 - r3 ready/new; 1 n1 r2 running/running"},
		"published ports make tasks outdated":      {append(append(svc(1, ports(swarm.PortConfigPublishModeIngress)), nodes()...), task("a", 1, "n1")), "1 - r2 ready/new; 1 n1 r1 running/running"},

		"update replaces one slot":                         {append(append(svc(2, image("web:2")), nodes()...), task("a", 1, "n1"), task("b", 2, "n2")), "1 - r2 ready/pending; 1 n1 r1 running/running; 2 n2 r1 running/running"},
		"the old one serves while the new one is prepared": {append(append(svc(1, image("web:2")), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Preparing)), updating()), "1 n1 r1 running/running; 1 n2 r2 ready/preparing"},
		"and stops when that is":                           {append(append(svc(1, image("web:2")), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Ready)), updating()), "1 n1 r1 shutdown/running; 1 n2 r2 ready/ready"},
		"an image that is not there stops nothing":         {append(append(svc(1, image("web:2")), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Rejected)), updating()), "1 - r2 ready/pending; 1 n1 r1 running/running; 1 n2 r2 shutdown/rejected"},
		"nor does one that may not be tried again":         {append(append(svc(1, both(image("web:2"), condition("none"))), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), desired(taskstate.Shutdown), observed(taskstate.Rejected))), "1 n1 r1 running/running; 1 n2 r2 shutdown/rejected"},
		"what does not serve is not waited for":            {append(append(svc(1, image("web:2")), nodes()...), task("a", 1, "n1", observed(taskstate.Starting)), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Preparing)), updating()), "1 n1 r1 shutdown/starting; 1 n2 r2 ready/preparing"},
		"an old one that dies is not waited for":           {append(append(svc(1, image("web:2")), nodes()...), task("a", 1, "n1", observed(taskstate.Failed)), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Preparing)), updating()), "1 n1 r1 shutdown/failed; 1 n2 r2 running/preparing"},
		"an address that is missing is given up":           {append(append(svc(1, both(image("web:2"), networks("net"))), nodes()...), task("a", 1, "n1"), task("b", 1, "", rev(2), desired(taskstate.Ready), observed(taskstate.New), because("no address")), updating()), "1 - r2 ready/new; 1 n1 r1 shutdown/running"},
		"the new one is lost":                              {append(append(svc(1, image("web:2")), statetest.Node("n1"), statetest.Node("n2", statetest.Drained)), task("a", 1, "n1"), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Ready)), updating()), "1 - r2 ready/pending; 1 n1 r1 running/running; 1 n2 r2 shutdown/ready"},
		"a second update waits for the first":              {append(append(svc(2, image("web:2"), func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "b"} }), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), desired(taskstate.Ready), observed(taskstate.Preparing)), task("c", 2, "n2")), "1 n1 r1 running/running; 1 n2 r2 ready/preparing; 2 n2 r1 running/running"},
		"start-first keeps the old one":                    {append(append(svc(1, both(image("web:2"), startFirst)), nodes()...), task("a", 1, "n1")), "1 - r2 running/pending; 1 n1 r1 running/running"},
		"until the new one runs":                           {append(append(svc(1, both(image("web:2"), startFirst)), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2))), "1 n1 r1 shutdown/running; 1 n2 r2 running/running"},
		"start-first failure keeps it":                     {append(append(svc(1, both(image("web:2"), startFirst)), nodes()...), task("a", 1, "n1"), task("b", 1, "n2", rev(2), observed(taskstate.Rejected))), "1 - r2 ready/pending; 1 n1 r1 running/running; 1 n2 r2 shutdown/rejected"},
		"outdated task is restarted as is":                 {append(append(svc(2, image("web:2")), nodes()...), task("z", 1, "n1", desired(taskstate.Shutdown), observed(taskstate.Shutdown)), task("a", 1, "n1", rev(2), observed(taskstate.Preparing)), task("b", 2, "n2", observed(taskstate.Failed)), updating()), "1 n1 r1 shutdown/shutdown; 1 n1 r2 running/preparing; 2 - r1 ready/pending; 2 n2 r1 shutdown/failed"},
		"label change leaves tasks":                        {append(append(svc(1, func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "b"} }), nodes()...), task("a", 1, "n1")), "1 n1 r1 running/running"},
		"a restart then takes the new":                     {append(append(svc(1, func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "b"} }), nodes()...), task("a", 1, "n1", observed(taskstate.Failed))), "1 - r2 ready/pending; 1 n1 r1 shutdown/failed"},
		"placement that the node satisfies":                {append(append(svc(1, constraints("node.id==n1")), nodes()...), task("a", 1, "n1")), "1 n1 r1 running/running"},
		"placement that it does not":                       {append(append(svc(1, constraints("node.id==n2")), nodes()...), task("a", 1, "n1")), "1 - r2 ready/pending; 1 n1 r1 running/running"},
		"placement of a task without node":                 {append(append(svc(1, constraints("node.id==n2")), nodes()...), task("a", 1, "", observed(taskstate.Pending))), "1 - r1 shutdown/pending; 1 - r2 running/pending"},
		"back to an equal spec":                            {append(append(svc(1, image("web:2"), image("web:1")), nodes()...), task("a", 1, "n1")), "1 n1 r1 running/running"},
		"update settings leave tasks":                      {append(append(svc(1, startFirst), nodes()...), task("a", 1, "n1")), "1 n1 r1 running/running"},
		"force update":                                     {append(append(svc(1, func(s *swarm.ServiceSpec) { s.TaskTemplate.ForceUpdate++ }), nodes()...), task("a", 1, "n1")), "1 - r2 ready/pending; 1 n1 r1 running/running"},
		"ports make tasks outdated":                        {append(append(svc(1, func(s *swarm.ServiceSpec) { s.EndpointSpec = &swarm.EndpointSpec{Mode: "dnsrr"} }), nodes()...), task("a", 1, "n1")), "1 - r2 ready/pending; 1 n1 r1 running/running"},

		"global: a task for each node": {append(svc(1, statetest.Global), nodes()...), "0 n1 r2 running/pending; 0 n2 r2 running/pending"},
		"global: constraints":          {append(svc(1, both(statetest.Global, constraints("node.id != n1"))), nodes()...), "0 n2 r2 running/pending"},
		"global: down":                 {append(append(svc(1, statetest.Global), nodes(statetest.Down)...), task("a", 0, "n1", rev(2)), task("b", 0, "n2", rev(2))), "0 n1 r2 shutdown/running; 0 n2 r2 running/running"},
		"global: drained":              {append(append(svc(1, statetest.Global), nodes(statetest.Drained)...), task("a", 0, "n1", rev(2)), task("b", 0, "n2", rev(2))), "0 n1 r2 shutdown/running; 0 n2 r2 running/running"},
		"global: paused keeps":         {append(append(svc(1, statetest.Global), nodes(statetest.Paused)...), task("a", 0, "n1", rev(2)), task("b", 0, "n2", rev(2))), "0 n1 r2 running/running; 0 n2 r2 running/running"},
		"global: paused takes nothing": {append(svc(1, statetest.Global), nodes(statetest.Paused)...), "0 n2 r2 running/pending"},
		"global: paused, no restart":   {append(append(svc(1, statetest.Global), nodes(statetest.Paused)...), task("a", 0, "n1", rev(2), observed(taskstate.Failed)), task("b", 0, "n2", rev(2))), "0 n1 r2 shutdown/failed; 0 n2 r2 running/running"},
		"global: paused, no update":    {append(append(svc(1, statetest.Global, image("web:2")), nodes(statetest.Paused)...), task("a", 0, "n1", rev(2)), task("b", 0, "n2", rev(3))), "0 n1 r2 running/running; 0 n2 r3 running/running"},
		"global: node returns":         {append(append(svc(1, statetest.Global), nodes()...), task("a", 0, "n1", rev(2), desired(taskstate.Shutdown), observed(taskstate.Shutdown)), task("b", 0, "n2", rev(2))), "0 n1 r2 running/pending; 0 n1 r2 shutdown/shutdown; 0 n2 r2 running/running"},
		"global: finished stays so":    {append(append(svc(1, both(statetest.Global, condition("on-failure"))), nodes()...), task("a", 0, "n1", rev(2), desired(taskstate.Shutdown), observed(taskstate.Complete)), task("b", 0, "n2", rev(2))), "0 n1 r2 shutdown/complete; 0 n2 r2 running/running"},
		"global: node deleted":         {append(append(svc(1, statetest.Global), nodes()...), task("a", 0, "n1", rev(2)), task("b", 0, "n2", rev(2)), task("c", 0, "n3", rev(2))), "0 n1 r2 running/running; 0 n2 r2 running/running; 0 n3 r2 remove/running"},
		"global: failure":              {append(append(svc(1, statetest.Global), nodes()...), task("a", 0, "n1", rev(2), observed(taskstate.Failed)), task("b", 0, "n2", rev(2))), "0 n1 r2 ready/pending; 0 n1 r2 shutdown/failed; 0 n2 r2 running/running"},
	} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(prepare(c.objs)...)
			settle(t, store, "web")
			if diff := cmp.Diff(c.want, strings.Join(describe(store.View(), "web"), "; ")); diff != "" {
				t.Errorf("tasks (-want +got):\n%s", diff)
			}
		})
	}
}

// updating marks the service in a list of objects as being updated.
func updating() state.Object { return &state.Request{ID: "updating"} }

func prepare(objs []state.Object) (kept []state.Object) {
	for _, o := range objs {
		if o.Key() != "updating" {
			kept = append(kept, o)
			continue
		}
		for i, k := range kept {
			if s, ok := k.(*state.Service); ok {
				c, started := *s, time.Now().Add(-time.Minute)
				c.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &started}
				kept[i] = &c
			}
		}
	}
	return kept
}

func TestScaleDownKeepsRunningAndSpreadSlots(t *testing.T) {
	pending := statetest.Observed(taskstate.Pending)
	store := statetest.New(append(svc(3),
		statetest.Node("n1"), statetest.Node("n2"),
		task("a", 1, "n1"), task("b", 2, "n1"), task("c", 3, "n2"), task("d", 4, "n1"), task("e", 5, "", pending), task("f", 6, "n2"))...)
	settle(t, store, "web")
	var kept []int
	for task := range store.View().TasksOfService("web") {
		if task.Desired == taskstate.Running {
			kept = append(kept, task.Slot)
		} else if task.Desired != taskstate.Remove {
			t.Errorf("slot %d: desired %v, want remove", task.Slot, task.Desired)
		}
	}
	if want := []int{1, 2, 3}; !slices.Equal(kept, want) { // first copies: 1, 3; then 2 before 6
		t.Errorf("kept slots %v, want %v", kept, want)
	}
	if s := store.View().Service("web"); s.UpdateStatus != nil {
		t.Errorf("scaling set the update status %+v", s.UpdateStatus)
	}
}

func TestSuccessorCarriesRestartsAndReason(t *testing.T) {
	failed := task("a", 1, "n1", statetest.Observed(taskstate.Failed), func(t *state.Task) {
		t.Restarts = state.Restarts{Count: 3, Quick: 3}
		t.Status.Err = "task: non-zero exit (1)"
	})
	store := statetest.New(append(svc(1), statetest.Node("n1"), failed)...)
	due := settle(t, store, "web")
	for task := range store.View().TasksPending() {
		if want := (state.Restarts{Count: 4, Quick: 4}); !cmp.Equal(task.Restarts, want) {
			t.Errorf("restarts %+v, want %+v", task.Restarts, want)
		}
		if want := "restart 4 in 40s: task: non-zero exit (1)"; task.Status.Err != want {
			t.Errorf("err %q, want %q", task.Status.Err, want)
		}
		if !due.Equal(task.StartAfter) {
			t.Errorf("due %v, want %v", due, task.StartAfter)
		}
	}
}

func TestReadyTaskStartsAfterAMinuteWhateverItsPredecessorDoes(t *testing.T) {
	store := statetest.New(append(svc(1), statetest.Node("n1"), statetest.Node("n2"),
		task("a", 1, "n1", statetest.Desired(taskstate.Shutdown)),
		task("b", 1, "n2", statetest.Desired(taskstate.Ready), statetest.Observed(taskstate.Ready)))...)
	created := store.View().Task("b").CreatedAt
	out := plan(store.View(), "web", created.Add(59*time.Second), nil, chunk)
	if len(out.changes) > 0 || !out.due.Equal(created.Add(stopWait)) {
		t.Errorf("before: %d changes, due %v", len(out.changes), out.due)
	}
	out = plan(store.View(), "web", created.Add(stopWait), nil, chunk)
	if len(out.changes) != 1 || out.changes[0].Object().(*state.Task).Desired != taskstate.Running {
		t.Errorf("after: %v", out.changes)
	}
}

func TestRollbackPutsPreviousSpecAsNewRevision(t *testing.T) {
	objs := svc(1, both(image("bad"), func(s *swarm.ServiceSpec) {
		s.UpdateConfig = &swarm.UpdateConfig{FailureAction: swarm.UpdateFailureActionRollback}
	}))
	old, started := task("a", 1, "n1", statetest.Desired(taskstate.Shutdown), statetest.Observed(taskstate.Shutdown)), time.Now().Add(-time.Minute)
	bad := task("b", 1, "n1", rev(2), statetest.Observed(taskstate.Rejected))
	s := objs[len(objs)-1].(*state.Service)
	s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &started}
	objs[0].(*state.Revision).RegistryAuth = "old secret"
	objs = withRun(objs, 1, runspec.Spec{Privileged: true})
	store := statetest.New(append(objs, statetest.Node("n1"), old, bad)...)
	settle1 := plan(store.View(), "web", time.Now(), func() string { return "new" }, chunk)
	store.Apply(settle1.changes...)
	v := store.View()
	got := v.Service("web")
	if got.Revision != 3 || got.Spec.TaskTemplate.ContainerSpec.Image != "web:1" || got.PreviousSpec != nil || got.RegistryAuth != "old secret" {
		t.Errorf("service %+v", got)
	}
	if r := v.Revision("web", 3); r == nil || r.Spec.TaskTemplate.ContainerSpec.Image != "web:1" || r.RegistryAuth != "old secret" || r.Run == nil || !r.Run.Privileged {
		t.Errorf("revision 3: %+v", r)
	}
	if u := got.UpdateStatus; u.State != swarm.UpdateStateRollbackStarted || !strings.HasSuffix(u.Message, "task b") {
		t.Errorf("update status %+v", u)
	}
	settle(t, store, "web")
	if lines := strings.Join(describe(store.View(), "web"), "; "); !strings.Contains(lines, "1 - r3 running/pending") {
		t.Errorf("tasks %s: want one of revision 3", lines)
	}
}

// A plan that would be too large is cut between slots, and the next one goes
// on: for new tasks, for an update of all at once, for a deletion.
func TestPlanStaysWithinItsBudget(t *testing.T) {
	const budget, replicas = 20, 50
	ids := 0
	run := func(store *statetest.Store) (plans int) {
		for more := true; more; plans++ {
			out := plan(store.View(), "web", time.Now(), func() string { ids++; return fmt.Sprintf("new%06d", ids) }, budget)
			if len(out.changes) > budget || out.more && len(out.changes) == 0 || plans > 99 {
				t.Fatalf("plan %d: %d changes, more %v", plans, len(out.changes), out.more)
			}
			if more = out.more; len(out.changes) > 0 {
				store.Apply(out.changes...)
			}
		}
		return plans
	}
	store := statetest.New(svc(replicas)...)
	if n := run(store); n < 3 {
		t.Errorf("%d tasks made in %d plans", replicas, n)
	}
	if n := len(describe(store.View(), "web")); n != replicas {
		t.Errorf("%d tasks, want %d", n, replicas)
	}
	store.Put(svc(replicas, both(image("web:2"), func(s *swarm.ServiceSpec) { s.UpdateConfig = &swarm.UpdateConfig{} }))...)
	if n := run(store); n < 6 {
		t.Errorf("%d slots updated in %d plans", replicas, n)
	}
	fresh := 0
	for task := range store.View().TasksOfService("web") {
		if task.Revision == 2 && task.Desired == taskstate.Running {
			fresh++
		}
	}
	if fresh != replicas {
		t.Errorf("%d new tasks, want %d", fresh, replicas)
	}
	store.Apply(state.Delete(state.KindService, "web"))
	run(store)
	for task := range store.View().TasksOfService("web") {
		if task.Desired != taskstate.Remove {
			t.Fatalf("task %s of a deleted service: desired %v", task.ID, task.Desired)
		}
	}
}

// A node that is drained and activated at once, or a service scaled down and
// up, must not run two containers in one slot.
func TestReusedSlotWaitsForWhatStillStops(t *testing.T) {
	stopping := statetest.Desired(taskstate.Shutdown)
	store := statetest.New(append(svc(1, statetest.Global), statetest.Node("n1"), task("a", 0, "n1", rev(2), stopping))...)
	settle(t, store, "web")
	if got, want := strings.Join(describe(store.View(), "web"), "; "), "0 n1 r2 ready/pending; 0 n1 r2 shutdown/running"; got != want {
		t.Errorf("global: %s, want %s", got, want)
	}
	removed := statetest.Desired(taskstate.Remove)
	store = statetest.New(append(svc(1), statetest.Node("n1"), task("a", 1, "n1", removed))...)
	settle(t, store, "web")
	if got, want := strings.Join(describe(store.View(), "web"), "; "), "1 - r1 ready/pending; 1 n1 r1 remove/running"; got != want {
		t.Errorf("replicated: %s, want %s", got, want)
	}
}

package api

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"shoal/manager/scheduler"
	"shoal/raftstore/state"
)

// Balance is what rebalancing would do with a service. GET /shoal/v1/rebalance
// lists that, POST /shoal/v1/services/{id}/rebalance answers with it.
type Balance struct {
	ServiceID, Name string
	Rebalance       state.Rebalance // the setting that counts
	Asked           bool            // it is being done, because a user asked for it
	Held            string          // why nothing moves now; "": nothing stands against it
	Moves           []BalanceMove   // in order
}

// BalanceMove is one task that would be better placed elsewhere.
type BalanceMove struct {
	Task, TaskID string // Task is its name
	From, To     string // names of nodes
	Why          string
}

// validateRebalance checks a setting of a service or the cluster. Empty takes it
// back.
func validateRebalance(given *state.Rebalance) error {
	if given != nil && *given != "" && !slices.Contains(state.Rebalances(), *given) {
		return invalid("invalid Rebalance: %q: allowed are %q", *given, state.Rebalances())
	}
	return nil
}

// adviseRebalance tells of the services that the parameters name, else of all
// that have several places for their tasks.
func (a *API) adviseRebalance(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	var services []*state.Service
	if err := r.ParseForm(); err != nil {
		return invalid("invalid query: %v", err)
	}
	for _, ref := range r.Form["service"] {
		s, err := FindService(v, ref)
		if err != nil {
			return err
		}
		services = append(services, s)
	}
	if len(services) == 0 {
		for s := range v.Services() {
			if s.Spec.Mode.Replicated != nil {
				services = append(services, s)
			}
		}
	}
	return writeJSON(w, balances(v, services, true, time.Now()))
}

func balances(v *state.View, services []*state.Service, byHand bool, now time.Time) []Balance {
	out := make([]Balance, 0, len(services))
	for i, advice := range scheduler.AdviseMoves(v, services, byHand, now) {
		out = append(out, balance(v, services[i], advice))
	}
	return out
}

func balance(v *state.View, s *state.Service, advice scheduler.MoveAdvice) Balance {
	b := Balance{
		ServiceID: s.ID, Name: s.Spec.Name, Rebalance: v.RebalanceOf(s), Asked: !s.RebalanceAsked.IsZero(),
		Held: advice.Held, Moves: []BalanceMove{},
	}
	for _, m := range advice.Moves {
		b.Moves = append(b.Moves, BalanceMove{
			Task: fmt.Sprintf("%s.%d", s.Spec.Name, m.Slot), TaskID: m.TaskID, From: nodeName(v, m.From), To: nodeName(v, m.To), Why: m.Why,
		})
	}
	return b
}

// rebalanceService has a service's tasks moved once, whatever its setting is.
// What stands against it now is said at once, as nobody may be there later.
func (a *API) rebalanceService(w http.ResponseWriter, r *http.Request) error {
	now := time.Now().UTC()
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	s, err := FindService(v, r.PathValue("id"))
	if err != nil {
		return err
	}
	b, needed, err := begin(v, s, now) // not in the plan: it counts all tasks of the cluster
	if err != nil {
		return err
	}
	answer, err := encode(b)
	if err != nil {
		return err
	}
	out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
		return planRebalance(v, s.ID, needed, now), outcome{http.StatusOK, answer}, nil
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// begin says what rebalancing a service will do, and whether it is to begin.
func begin(v *state.View, s *state.Service, now time.Time) (b Balance, needed bool, err error) {
	advice := scheduler.AdviseMoves(v, []*state.Service{s}, true, now)[0]
	b = balance(v, s, advice)
	if !b.Asked && advice.Held != "" && !advice.Soon {
		return b, false, rpcPrecondition("service %s cannot be rebalanced now: %s", s.Spec.Name, advice.Held)
	}
	needed = !b.Asked && (len(advice.Moves) > 0 || advice.Soon)
	b.Asked = b.Asked || needed
	return b, needed, nil
}

// planRebalance asks for the moves. Should they be impossible by now, the
// scheduler closes the matter.
func planRebalance(v *state.View, id string, needed bool, now time.Time) []state.Change {
	old := v.Service(id)
	if old == nil || !needed || !old.RebalanceAsked.IsZero() {
		return nil
	}
	next := *old
	next.RebalanceAsked = now
	return []state.Change{state.Put(&next)}
}

// explainBalance adds to a service that runs as it should what would be better.
func explainBalance(v *state.View, s *state.Service, now time.Time, why *finding) {
	setting := v.RebalanceOf(s)
	if setting == state.RebalanceOff && s.RebalanceAsked.IsZero() || s.Spec.Mode.Replicated == nil {
		return
	}
	asked := !s.RebalanceAsked.IsZero()
	moved := setting == state.RebalanceAuto || asked
	b := balances(v, []*state.Service{s}, asked || !moved, now)[0]
	for _, m := range b.Moves {
		why.Evidence = append(why.Evidence, fmt.Sprintf("%s would be better on %s than on %s: %s", m.Task, m.To, m.From, m.Why))
	}
	switch {
	case len(b.Moves) > 0 && moved:
		why.Cause += "; they are being moved to where they are better placed, one at a time"
	case len(b.Moves) > 0:
		why.Cause += fmt.Sprintf("; %d of them would be placed elsewhere today", len(b.Moves))
		why.fix("shoal rebalance " + s.Spec.Name)
	case moved && b.Held != "":
		why.Evidence = append(why.Evidence, "no task is moved now: "+b.Held)
	}
}

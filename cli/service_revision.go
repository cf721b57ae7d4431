package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/cli/format"
)

// servicePath is a call that Docker's API does not have.
func servicePath(ref, what string) string {
	return "/shoal/v1/services/" + url.PathEscape(ref) + "/" + what
}

func (s *shell) serviceHistory() *command {
	var (
		form  string
		quiet bool
		f     = &flags{}
	)
	f.add((*templateValue)(&form), "string", "format", "Print with TEMPLATE (Go template), \"table TEMPLATE\" or \"json\"")
	f.toggle(&quiet, "quiet,q", "Only display the numbers")
	return &command{
		name: "history", operands: "[OPTIONS] SERVICE", short: "List the revisions of a service",
		long:  "A revision is a specification that was accepted. The newest 10 are kept, and those of which tasks are left.\nSee also: shoal service diff, shoal service rollback --to.",
		flags: f, min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			var h format.History
			if err := s.getJSON(ctx, servicePath(args[0], "revisions"), &h); err != nil {
				return err
			}
			return format.Write(s.out, format.RevisionTable(), form, quiet, format.RevisionRows(h, time.Now()))
		},
	}
}

func (s *shell) serviceDiff() *command {
	return &command{
		name: "diff", operands: "SERVICE [REVISION [REVISION]]", short: "Show what changed between two revisions of a service",
		long: "Without a revision: from the one before the current one. With one: from that to the current one.\nLines that begin with '-' are gone, those with '+' are new. See also: shoal service history.",
		min:  1, max: 3, completes: "service",
		run: func(ctx context.Context, args []string) error {
			numbers := make([]uint64, 0, 2)
			for _, arg := range args[1:] {
				var n count
				if err := n.Set(arg); err != nil || n == 0 {
					return fmt.Errorf("invalid revision %q: a number from 1 is expected", arg)
				}
				numbers = append(numbers, uint64(n))
			}
			var h format.History
			if err := s.getJSON(ctx, servicePath(args[0], "revisions"), &h); err != nil {
				return err
			}
			from, to, err := pickRevisions(h, numbers)
			if err != nil {
				return err
			}
			return format.WriteDiff(s.out, h.Name, from, to)
		},
	}
}

// pickRevisions finds the two that are to be compared.
func pickRevisions(h format.History, numbers []uint64) (from, to format.Revision, err error) {
	kept := make([]string, 0, len(h.Revisions))
	current := -1
	for i, r := range h.Revisions {
		kept = append(kept, fmt.Sprint(r.Number))
		if r.Current {
			current = i
		}
	}
	find := func(n uint64) (format.Revision, error) {
		for _, r := range h.Revisions {
			if r.Number == n {
				return r, nil
			}
		}
		return format.Revision{}, fmt.Errorf("revision %d of service %s not found: %s are kept", n, h.Name, strings.Join(kept, ", "))
	}
	if current < 0 {
		return from, to, fmt.Errorf("service %s has no current revision", h.Name)
	}
	to = h.Revisions[current]
	switch {
	case len(numbers) == 0 && current+1 == len(h.Revisions):
		return from, to, fmt.Errorf("service %s has no revision before %d", h.Name, to.Number)
	case len(numbers) == 0:
		return h.Revisions[current+1], to, nil
	case len(numbers) == 2:
		if to, err = find(numbers[1]); err != nil {
			return from, to, err
		}
	}
	from, err = find(numbers[0])
	return from, to, err
}

const exitCodes = "\n\nExit codes: 0 converged, 1 refused, paused or failed, 124 --wait-timeout passed, 125 bad flag, 130 interrupted while waiting (it goes on)."

func (s *shell) serviceRollback() *command {
	var (
		w  waitFlags
		to count
		f  = &flags{}
	)
	f.add(&to, "uint", "to", "Roll back to this revision, of those that \"shoal service history\" lists").def("the previous specification")
	w.add(f)
	return &command{
		name: "rollback", operands: "[OPTIONS] SERVICE", short: "Revert changes to a service's configuration",
		long:  "Waits until the service has converged, unless --detach is given." + exitCodes,
		flags: f, min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			what := "rollback"
			if f.changed("to") {
				if to == 0 {
					return badFlag("to", "0", "must be a number from 1")
				}
				what = fmt.Sprintf("rollback?to=%d", to)
			}
			w.rollback = true
			return s.steer(ctx, w, args[0], what)
		},
	}
}

func (s *shell) servicePause() *command {
	return &command{
		name: "pause", operands: "SERVICE", short: "Pause the update of a service",
		long: "No more tasks are replaced; what is being replaced comes to its end. A rollback can be paused too.\nSee also: shoal service resume, shoal service abort.",
		min:  1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			return s.steer(ctx, waitFlags{detach: true}, args[0], "pause")
		},
	}
}

func (s *shell) serviceResume() *command {
	return s.steering("resume", "Resume the paused update of a service",
		"Goes on where the update, or rollback, was paused, by a user or by a failure. Tasks that had failed before do not count any more.")
}

func (s *shell) serviceAbort() *command {
	return s.steering("abort", "Abort the update of a service",
		"Rolls the service back to what it was before the update, as its rollback settings say.")
}

func (s *shell) steering(name, short, long string) *command {
	var (
		w waitFlags
		f = &flags{}
	)
	w.add(f)
	return &command{
		name: name, operands: "[OPTIONS] SERVICE", short: short,
		long:  long + "\nWaits until the service has converged, unless --detach is given." + exitCodes,
		flags: f, min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error { return s.steer(ctx, w, args[0], name) },
	}
}

// steer asks for something to be done to the update of a service, and waits for
// what comes of it.
func (s *shell) steer(ctx context.Context, w waitFlags, ref, what string) error {
	var answer struct{ UpdateStatus *swarm.UpdateStatus }
	if err := s.postJSON(ctx, servicePath(ref, what), struct{}{}, &answer); err != nil {
		return err
	}
	fmt.Fprintln(s.out, ref)
	if w.detach {
		return nil
	}
	// Whoever resumes a rollback has asked for it as well.
	w.rollback = w.rollback || answer.UpdateStatus != nil && answer.UpdateStatus.State == swarm.UpdateStateRollbackStarted
	api, err := s.connect()
	if err != nil {
		return err
	}
	return s.wait(ctx, api, w, ref)
}

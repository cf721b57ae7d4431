package format

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Balance is which tasks of a service would be better placed elsewhere.
type Balance struct {
	ServiceID, Name string
	Held            string // why none moves now
	Moves           []struct{ Task, From, To, Why string }
}

// WriteBalance prints moves for people, a line each. named: also what there is
// to say of services without any.
func WriteBalance(out io.Writer, balances []Balance, named bool) error {
	moves := 0
	for _, b := range balances {
		moves += len(b.Moves)
	}
	if moves > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "TASK\tFROM\tTO\tWHY")
		for _, b := range balances {
			for _, m := range b.Moves {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Task, m.From, m.To, m.Why)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, b := range balances {
		switch {
		case !named || len(b.Moves) > 0:
		case b.Held != "":
			fmt.Fprintf(out, "%s: not now: %s\n", b.Name, b.Held)
		default:
			fmt.Fprintf(out, "%s: nothing to move\n", b.Name)
		}
	}
	if !named && moves == 0 {
		fmt.Fprintln(out, "Nothing to move.")
	}
	return nil
}

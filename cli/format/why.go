package format

import (
	"fmt"
	"io"
)

// Why is why a task or service is as it is.
type Why struct {
	Kind, ID, Name, State, DesiredState, Cause string
	Evidence                                   []string
	Fix                                        string
}

// WriteWhy prints w for people.
func WriteWhy(out io.Writer, w Why) {
	state := w.State
	if w.DesiredState != "" && w.DesiredState != w.State {
		state += " (wanted: " + w.DesiredState + ")"
	}
	fmt.Fprintf(out, "%s %s (%s): %s\n", Title(w.Kind), w.Name, TruncateID(w.ID), state)
	if w.Cause != "" {
		fmt.Fprintf(out, "\nCause:     %s\n", w.Cause)
	}
	for i, e := range w.Evidence {
		label := "           "
		if i == 0 {
			label = "Evidence:  "
		}
		fmt.Fprintf(out, "%s%s\n", label, e)
	}
	if w.Fix != "" {
		fmt.Fprintf(out, "Fix:       %s\n", w.Fix)
	}
}

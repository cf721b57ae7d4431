package format

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"shoal/internal/runspec"
)

// PrettyRun prints what Docker's fields cannot say of a service: field by
// field, as the API names them.
func PrettyRun(w io.Writer, run *runspec.Spec) {
	fields := map[string]json.RawMessage{}
	if raw, err := json.Marshal(run); err != nil || json.Unmarshal(raw, &fields) != nil || len(fields) == 0 {
		return
	}
	fmt.Fprintln(w, "Run:")
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(w, " %s:\t%s\n", name, fields[name])
	}
	fmt.Fprintln(w)
}

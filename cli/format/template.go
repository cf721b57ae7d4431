// Package format prints what commands answer: tables, JSON, Go templates and
// progress, in the form that Docker's command line gives them.
package format

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/docker/cli/templates"
)

// Table is a list of rows of one kind. Row types have exported fields, in
// alphabetical order, so that `json` prints what Docker prints.
type Table struct {
	Default string            // template of the columns
	Headers map[string]string // by field
}

// Write prints rows as format says: "" or "table" is the default table,
// "table TEMPLATE" a table of one's own, "json" a line of JSON per row, and
// anything else a template per row. quiet prints the IDs.
func Write[T any](w io.Writer, t Table, format string, quiet bool, rows []T) error {
	text, table := t.template(format, quiet)
	tmpl, err := parse(text)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	for i := range rows {
		if err := tmpl.Execute(&body, &rows[i]); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		body.WriteByte('\n')
	}
	if !table {
		_, err := body.WriteTo(w)
		return err
	}
	var head bytes.Buffer
	if err := tmpl.Funcs(templates.HeaderFunctions).Execute(&head, t.Headers); err != nil {
		head.Reset() // a template that works on rows only has no headings
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintf(tw, "%s\n%s", head.String(), body.String())
	return tw.Flush()
}

// Check refuses a template that cannot be parsed, before anything is asked for.
func Check(format string) error {
	text, _ := Table{}.template(format, false)
	_, err := parse(text)
	return err
}

func (t Table) template(format string, quiet bool) (text string, table bool) {
	switch {
	case quiet && (format == "" || format == "table"):
		return "{{.ID}}", false
	case format == "" || format == "table":
		return t.Default, true
	case format == "json":
		return "{{json .}}", false
	case strings.HasPrefix(format, "table "):
		return unescape(format[len("table "):]), true
	}
	return unescape(format), false
}

func unescape(s string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(s, " "))
}

func parse(text string) (*template.Template, error) {
	tmpl, err := templates.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w", err)
	}
	return tmpl, nil
}

package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Object is one thing to inspect: as decoded, and as the server sent it.
type Object struct {
	Typed any
	Raw   []byte // nil: print Typed
}

// Inspect prints objects as `inspect` does: "" is an indented JSON array,
// "json" the array in one line, anything else a template per object, which may
// also name fields that only the raw JSON has.
func Inspect(w io.Writer, format string, objects []Object) error {
	if format == "" || format == "json" {
		return inspectJSON(w, format == "", objects)
	}
	tmpl, err := parse(format)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, o := range objects {
		var one bytes.Buffer
		if err := tmpl.Execute(&one, o.Typed); err != nil {
			var raw any
			if o.Raw == nil || json.Unmarshal(o.Raw, &raw) != nil {
				return fmt.Errorf("template parsing error: %w", err)
			}
			one.Reset()
			if rawErr := tmpl.Option("missingkey=error").Execute(&one, raw); rawErr != nil {
				return fmt.Errorf("template parsing error: %w", err)
			}
		}
		out.Write(one.Bytes())
		out.WriteByte('\n')
	}
	_, err = out.WriteTo(w)
	return err
}

func inspectJSON(w io.Writer, indent bool, objects []Object) error {
	all := make([]json.RawMessage, 0, len(objects))
	for _, o := range objects {
		raw := o.Raw
		if raw == nil {
			var err error
			if raw, err = json.Marshal(o.Typed); err != nil {
				return err
			}
		}
		all = append(all, raw)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "    ")
	}
	return enc.Encode(all)
}

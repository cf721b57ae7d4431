package cli

import (
	"context"
	"net/url"
	"time"

	"shoal/cli/format"
)

func (s *shell) whyCommand() *command {
	var (
		form string
		f    = &flags{}
	)
	f.add((*templateValue)(&form), "string", "format", "Print with TEMPLATE (Go template) or \"json\"")
	return &command{
		name: "why", operands: "[OPTIONS] TASK|SERVICE", short: "Say why a task or service is as it is, and what would help",
		flags: f, min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			var w format.Why
			if err := s.getJSON(ctx, "/shoal/v1/why/"+url.PathEscape(args[0]), &w); err != nil {
				return err
			}
			if form == "" {
				format.WriteWhy(s.out, w, time.Now())
				return nil
			}
			return format.Write(s.out, format.Table{}, form, false, []format.Why{w})
		},
	}
}

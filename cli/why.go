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
		long: "A task is named by its name, its ID, or its slot: web.1. Of a service, the task that tells most of what is wrong is explained.\n" +
			"Shows why each node refuses a task that waits and up to three ways to place it, the cheapest first; how a task ended, with the\n" +
			"last lines of its output and its last failed health checks, from the node that has them; and when the next try is.",
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

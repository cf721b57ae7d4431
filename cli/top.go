package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
)

func (s *shell) topCommand() *command {
	return &command{
		name: "top", operands: "TASK|CONTAINER [PS OPTIONS]", short: "Show what runs in a task's container, wherever it runs",
		long:  "A task is named by its name, its ID, or its slot: web.1.",
		flags: &flags{}, stopAtOperand: true, min: 1, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			top, err := api.ContainerTop(ctx, args[0], args[1:])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.out, 20, 1, 3, ' ', 0)
			fmt.Fprintln(w, strings.Join(top.Titles, "\t"))
			for _, process := range top.Processes {
				fmt.Fprintln(w, strings.Join(process, "\t"))
			}
			return w.Flush()
		},
	}
}

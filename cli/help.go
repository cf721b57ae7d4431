package cli

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
)

// writeHelp prints what c does, how it is called, and its flags or commands.
func writeHelp(w io.Writer, c *command) {
	usage := c.path()
	if len(c.commands) > 0 {
		usage += " COMMAND"
	} else if c.operands != "" {
		usage += " " + c.operands
	}
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", usage, c.short)
	if c.long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.long))
	}
	if len(c.aliases) > 0 {
		names := []string{c.path()}
		for _, alias := range c.aliases {
			names = append(names, c.parent.path()+" "+alias)
		}
		fmt.Fprintf(w, "\nAliases:\n  %s\n", strings.Join(names, ", "))
	}
	if lines := examplesOf(c); len(lines) > 0 {
		fmt.Fprintf(w, "\nExamples:\n  %s\n", strings.Join(lines, "\n  "))
	}
	writeCommands(w, c)
	writeFlags(w, c)
	if len(c.commands) > 0 {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", c.path())
	}
}

func writeCommands(w io.Writer, c *command) {
	if len(c.commands) == 0 {
		return
	}
	fmt.Fprint(w, "\nCommands:\n")
	tw := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	for _, sub := range c.commands {
		if !sub.hidden {
			fmt.Fprintf(tw, "  %s\t%s\n", sub.name, sub.short)
		}
	}
	_ = tw.Flush()
}

func writeFlags(w io.Writer, c *command) {
	if len(c.flags.list) == 0 {
		return
	}
	heading := "Options"
	if c.parent == nil {
		heading = "Global Options"
	}
	fmt.Fprintf(w, "\n%s:\n", heading)
	list := append([]*flag(nil), c.flags.list...)
	sort.SliceStable(list, func(i, j int) bool { return list[i].name < list[j].name })
	tw := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	for _, f := range list {
		short := "    "
		if f.short != "" {
			short = "-" + f.short + ", "
		}
		kind := ""
		if f.kind != "" {
			kind = " " + f.kind
		}
		fmt.Fprintf(tw, "  %s--%s%s\t%s%s\n", short, f.name, kind, f.usage, f.note())
	}
	_ = tw.Flush()
}

// note is what --help adds to a flag: its words and its default.
func (f *flag) note() string {
	var note string
	if len(f.words) > 0 {
		note += fmt.Sprintf(" (%s)", quoteAll(f.words))
	}
	if f.defaults != "" {
		note += fmt.Sprintf(" (default %s)", f.defaults)
	}
	return note
}

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ucli "github.com/urfave/cli/v2"
)

// command is one node of the command tree. It becomes an urfave/cli command;
// what urfave/cli cannot say (where flags may stand, how many operands) is here.
type command struct {
	name     string
	aliases  []string
	operands string // "[OPTIONS] SERVICE"
	short    string
	long     string // further paragraphs of --help
	flags    *flags
	// stopAtOperand: flags end at the first operand, as in service create.
	stopAtOperand bool
	min, max      int // operands; max < 0: no limit
	commands      []*command
	hidden        bool
	// completes names what an operand is: "service", "node", "network", "secret", "config" or words.
	completes string
	run       func(ctx context.Context, args []string) error

	parent *command
}

// path is the command as typed: "shoal service create".
func (c *command) path() string {
	if c.parent == nil {
		return c.name
	}
	return c.parent.path() + " " + c.name
}

// link sets what the tree needs: parents, and flags where there are none.
func (c *command) link() *command {
	if c.flags == nil {
		c.flags = &flags{}
	}
	for _, sub := range c.commands {
		sub.parent = c
		sub.link()
	}
	return c
}

func (c *command) find(name string) *command {
	for _, sub := range c.commands {
		if sub.name == name || slices.Contains(sub.aliases, name) {
			return sub
		}
	}
	return nil
}

// checkOperands refuses a wrong number of operands in Docker's words.
func (c *command) checkOperands(args []string) error {
	n := len(args)
	switch {
	case c.max == 0 && n > 0:
		return usageError(1, c, "shoal: '%s' accepts no arguments", c.path())
	case c.min == c.max && n != c.min:
		return usageError(1, c, "shoal: '%s' requires %s", c.path(), plural(c.min))
	case n < c.min:
		return usageError(1, c, "shoal: '%s' requires at least %s", c.path(), plural(c.min))
	case c.max >= 0 && n > c.max:
		return usageError(1, c, "shoal: '%s' requires at most %s", c.path(), plural(c.max))
	}
	for _, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return usageError(1, c, "shoal: '%s' was given an empty argument", c.path())
		}
	}
	return nil
}

func plural(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// app makes the urfave/cli application of the tree. Nothing of its own help,
// version, completion or error printing is wanted.
func (s *shell) app() *ucli.App {
	root := s.root.urfave()
	return &ucli.App{
		Name: root.Name, Usage: root.Usage,
		Flags: root.Flags, Commands: root.Subcommands,
		HideHelp: true, HideHelpCommand: true, HideVersion: true,
		DisableSliceFlagSeparator: true,
		Reader:                    s.in, Writer: s.out, ErrWriter: s.err,
		ExitErrHandler: func(*ucli.Context, error) {},
		OnUsageError:   root.OnUsageError,
	}
}

func (c *command) urfave() *ucli.Command {
	u := &ucli.Command{
		Name: c.name, Aliases: c.aliases, Usage: c.short,
		HideHelp: true, HideHelpCommand: true,
		OnUsageError: func(_ *ucli.Context, err error, _ bool) error {
			if c.flags.refused != nil { // what Set said, before package flag rewrote it
				err = c.flags.refused
			}
			return usageError(codeFlag, c, "%w", err)
		},
	}
	for _, f := range c.flags.list {
		u.Flags = append(u.Flags, &ucli.GenericFlag{Name: f.name, Usage: f.usage, Value: f})
	}
	for _, sub := range c.commands {
		u.Subcommands = append(u.Subcommands, sub.urfave())
	}
	if c.run != nil {
		u.Action = func(ctx *ucli.Context) error {
			args := ctx.Args().Slice()
			if err := c.checkOperands(args); err != nil {
				return err
			}
			return c.run(ctx.Context, args)
		}
	}
	return u
}

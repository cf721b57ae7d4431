package cli

import (
	"strings"
)

// line is a command line in the one form that urfave/cli reads as Docker's
// parser would: long flags with their values glued on, then "--", then operands.
type line struct {
	args    []string
	command *command
	help    *command // print this command's help instead
	asked   bool     // because --help was given
}

// version: --version stands before any command.
func (l *line) version() bool {
	for _, arg := range l.args {
		if arg == "--version=true" {
			return true
		}
		if !isFlag(arg) {
			return false
		}
	}
	return false
}

// normalise rewrites the arguments of root, and refuses flags and commands that
// do not exist. It looks at names only; values are for the flags to judge.
func normalise(root *command, args []string) (*line, error) {
	l := &line{command: root}
	for {
		c := l.command
		if len(c.commands) == 0 {
			return l, l.leaf(args)
		}
		rest, err := l.leading(args)
		if err != nil || l.help != nil {
			return l, err
		}
		if len(rest) == 0 {
			l.help = c
			return l, nil
		}
		sub := c.find(rest[0])
		switch {
		case sub == nil && rest[0] == "help":
			l.asked = true
			return l, l.helpFor(rest[1:])
		case sub == nil:
			return nil, usageError(1, c, "shoal: unknown command: %s %s", c.path(), rest[0])
		}
		l.args = append(l.args, sub.name)
		l.command, args = sub, rest[1:]
	}
}

// helpFor is `shoal help service create`.
func (l *line) helpFor(names []string) error {
	c := l.command
	for _, name := range names {
		sub := c.find(name)
		if sub == nil {
			return usageError(1, c, "shoal: unknown command: %s %s", c.path(), name)
		}
		c = sub
	}
	l.help = c
	return nil
}

// leading takes the flags in front of a subcommand and returns the rest.
func (l *line) leading(args []string) ([]string, error) {
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			return args[1:], nil
		}
		if !isFlag(arg) {
			return args, nil
		}
		flags, n, err := l.flag(args)
		if err != nil || l.help != nil {
			return nil, err
		}
		l.args = append(l.args, flags...)
		args = args[n:]
	}
	return nil, nil
}

// leaf takes flags and operands of a command that has no subcommands.
func (l *line) leaf(args []string) error {
	var operands []string
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			operands = append(operands, args[1:]...)
			break
		}
		if !isFlag(arg) {
			if l.command.stopAtOperand {
				operands = append(operands, args...)
				break
			}
			operands = append(operands, arg)
			args = args[1:]
			continue
		}
		flags, n, err := l.flag(args)
		if err != nil || l.help != nil {
			return err
		}
		l.args = append(l.args, flags...)
		args = args[n:]
	}
	l.args = append(append(l.args, "--"), operands...)
	return nil
}

// isFlag: a lone dash is an operand.
func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

// flag normalises the flag in args[0] and says how many arguments it took.
func (l *line) flag(args []string) (out []string, n int, err error) {
	if strings.HasPrefix(args[0], "--") {
		return l.long(args)
	}
	return l.cluster(args)
}

func (l *line) long(args []string) (out []string, n int, err error) {
	name, val, glued := strings.Cut(args[0][2:], "=")
	f := l.command.flags.find(name)
	switch {
	case f == nil && name == "help" && !glued:
		l.help, l.asked = l.command, true
		return nil, 1, nil
	case f == nil && (name == "" || name[0] == '-'):
		return nil, 0, usageError(codeFlag, l.command, "bad flag syntax: %s", args[0])
	case f == nil:
		return nil, 0, usageError(codeFlag, l.command, "unknown flag: --%s", name)
	case glued:
		return []string{"--" + name + "=" + val}, 1, nil
	case f.boolean:
		return []string{"--" + name + "=true"}, 1, nil
	case len(args) < 2:
		return nil, 0, usageError(codeFlag, l.command, "flag needs an argument: --%s", name)
	}
	return []string{"--" + name + "=" + args[1]}, 2, nil
}

// cluster takes -q, -dq, -eA=1, -e A=1 and -t=true.
func (l *line) cluster(args []string) (out []string, n int, err error) {
	letters := args[0][1:]
	for letters != "" {
		c := firstRune(letters)
		f := l.command.flags.findShort(c)
		if f == nil && c == "h" {
			l.help, l.asked = l.command, true
			return nil, 1, nil
		}
		if f == nil {
			return nil, 0, usageError(codeFlag, l.command, "unknown shorthand flag: '%s' in %s", c, args[0])
		}
		letters = letters[len(c):]
		glued, isGlued := strings.CutPrefix(letters, "=")
		switch {
		case isGlued:
			return append(out, "--"+f.name+"="+glued), 1, nil
		case f.boolean:
			out = append(out, "--"+f.name+"=true")
		case letters != "":
			return append(out, "--"+f.name+"="+letters), 1, nil
		case len(args) < 2:
			return nil, 0, usageError(codeFlag, l.command, "flag needs an argument: '%s' in %s", c, args[0])
		default:
			return append(out, "--"+f.name+"="+args[1]), 2, nil
		}
	}
	return out, 1, nil
}

func firstRune(s string) string {
	for i := range s {
		if i > 0 {
			return s[:i]
		}
	}
	return s
}

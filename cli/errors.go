package cli

import (
	"errors"
	"fmt"
)

// exitError ends the process with a code; a nil err prints nothing.
type exitError struct {
	code int
	err  error
	see  string // a command line whose output says more
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// errUnreachable: nobody answered at all.
var errUnreachable = errors.New("no answer")

// usageError is a command line that cannot be meant: one line, and where to
// read on.
func usageError(code int, c *command, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...), see: c.path() + " --help"}
}

// badFlag refuses the value of a flag after parsing, in the words that a value
// refused while parsing gets.
func badFlag(name, given, allowed string, args ...any) error {
	return &exitError{code: codeFlag, err: fmt.Errorf("invalid argument %q for %q flag: %s", given, "--"+name, fmt.Sprintf(allowed, args...))}
}

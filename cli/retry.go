package cli

import "strings"

// updateTries: a writer that loses this often has a rival that never rests.
const updateTries = 5

// reread reads, changes and writes an object again when somebody else has
// written it in between. What a command changes is a difference, so that it
// holds for the newer object too.
func reread(try func() error) error {
	var err error
	for range updateTries {
		err = try()
		if err == nil || !strings.Contains(err.Error(), "update out of sequence") {
			return err
		}
	}
	return err
}

package overlay

import (
	"errors"
	"fmt"

	"shoal/overlay/filter"
	"shoal/overlay/link"
	"shoal/overlay/tunnel"
)

// Purge removes everything that a Plane has made in the kernel, for a node that
// leaves its cluster. No Plane may run.
func Purge() error {
	err := errors.Join(filter.Purge(), link.Purge(), tunnel.Purge(TunnelLink))
	if err != nil {
		return fmt.Errorf("remove the data plane: %w", err)
	}
	return nil
}

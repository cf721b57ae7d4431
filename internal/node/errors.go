package node

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Errors that reach a user as they are: their kind says the status, their text
// is the whole message.

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(format, args...))
}

func unavailable(format string, args ...any) error {
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf(format, args...))
}

func denied(format string, args ...any) error {
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(format, args...))
}

func failed(format string, args ...any) error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(format, args...))
}

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// Swarm's errors come from two places, and clients match on both: the engine
// says what it found in the request, plain; the manager behind it says what it
// thinks of the spec, behind a gRPC prefix that the engine leaves on.

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func notFound(kind, ref string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("%s %s not found", kind, ref))
}

// unsupported refuses what a later version will do. instead is the way out.
func unsupported(field, instead string) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("%s: not supported by this version of shoal; %s", field, instead))
}

// failed is an error without a kind: status 500.
func failed(format string, args ...any) error {
	return errdefs.ErrUnknown.WithMessage(fmt.Sprintf(format, args...))
}

func rpcText(code, format string, args []any) string {
	return "rpc error: code = " + code + " desc = " + fmt.Sprintf(format, args...)
}

func rpcInvalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(rpcText("InvalidArgument", format, args))
}

func rpcPrecondition(format string, args ...any) error {
	return errdefs.ErrFailedPrecondition.WithMessage(rpcText("FailedPrecondition", format, args))
}

func rpcUnimplemented(format string, args ...any) error {
	return errdefs.ErrNotImplemented.WithMessage(rpcText("Unimplemented", format, args))
}

func rpcExists(format string, args ...any) error {
	return errdefs.ErrAlreadyExists.WithMessage(rpcText("AlreadyExists", format, args))
}

// rpcUnknown is what Swarm makes of errors without a kind: status 500. That of
// a stale version is the one that clients retry on.
func rpcUnknown(format string, args ...any) error {
	return errdefs.ErrUnknown.WithMessage(rpcText("Unknown", format, args))
}

func outOfSequence() error { return rpcUnknown("update out of sequence") }

// status maps kinds of errors as Swarm does. FailedPrecondition and
// OutOfRange are 400 there, everything without a kind 500.
func status(err error) int {
	switch {
	case errdefs.IsInvalidArgument(err), errdefs.IsFailedPrecondition(err), errdefs.IsOutOfRange(err):
		return http.StatusBadRequest
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsAlreadyExists(err), errdefs.IsConflict(err):
		return http.StatusConflict
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// WriteError answers a request with an error, in Docker's form.
func WriteError(w http.ResponseWriter, err error) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	code := status(err)
	w.WriteHeader(code)
	if code == http.StatusNotModified {
		return // has no body
	}
	body := struct {
		Message string `json:"message"`
	}{err.Error()}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // the client is gone: nobody is left to tell
}

// gone reports whether the client went away rather than anything failing.
func gone(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}

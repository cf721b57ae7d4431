package relay

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// systemError is the stream of a framed answer whose content clients report as
// an error of the daemon.
const systemError = 3

// frame is a piece of a stream that is one of several in a connection, in
// Docker's form.
func frame(stream byte, text string) []byte {
	b := make([]byte, 8, 8+len(text))
	b[0] = stream
	binary.BigEndian.PutUint32(b[4:], uint32(len(text))) //nolint:gosec // a short text
	return append(b, text...)
}

// Refusal makes an error of an answer in Docker's form.
func Refusal(status int, body []byte) error {
	var text struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &text) != nil || text.Message == "" {
		text.Message = cmp.Or(string(bytes.TrimSpace(body)), http.StatusText(status))
	}
	switch status {
	case http.StatusBadRequest:
		return errdefs.ErrInvalidArgument.WithMessage(text.Message)
	case http.StatusForbidden:
		return errdefs.ErrPermissionDenied.WithMessage(text.Message)
	case http.StatusNotFound:
		return errdefs.ErrNotFound.WithMessage(text.Message)
	case http.StatusConflict:
		return errdefs.ErrConflict.WithMessage(text.Message)
	case http.StatusNotImplemented:
		return errdefs.ErrNotImplemented.WithMessage(text.Message)
	case http.StatusServiceUnavailable:
		return errdefs.ErrUnavailable.WithMessage(text.Message)
	}
	return errdefs.ErrUnknown.WithMessage(text.Message)
}

// splitVersion takes the version off a path, if it has one. Whether it is one
// that is spoken is up to the engine.
func splitVersion(path string) (version, rest string) {
	head, tail, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if version, isVersion := strings.CutPrefix(head, "v1."); ok && isVersion {
		return "1." + version, "/" + tail
	}
	return "", path
}

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/versions"
)

// maxBody is far above any spec and far below what hurts a manager.
const maxBody = 4 << 20

type versionKey struct{}

// WithVersion notes the API version that a request's path named.
func WithVersion(ctx context.Context, version string) context.Context {
	return context.WithValue(ctx, versionKey{}, version)
}

// Version is the API version of a request: MaxVersion if its path named none.
func Version(r *http.Request) string {
	if v, ok := r.Context().Value(versionKey{}).(string); ok && v != "" {
		return v
	}
	return MaxVersion
}

// AtLeast reports whether a request was made in this version of the API, or in a
// later one.
func AtLeast(r *http.Request, version string) bool {
	return versions.GreaterThanOrEqualTo(Version(r), version)
}

// SplitVersion takes the version prefix off a path. A version outside of
// MinVersion to MaxVersion is an error, in Docker's words.
func SplitVersion(path string) (version, rest string, err error) {
	head, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	version, isVersion := strings.CutPrefix(head, "v")
	if !ok || !isVersion || !isVersionNumber(version) {
		return "", path, nil
	}
	switch {
	case versions.GreaterThan(version, MaxVersion):
		return "", "", invalid("client version %s is too new. Maximum supported API version is %s", version, MaxVersion)
	case versions.LessThan(version, MinVersion):
		return "", "", invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, MinVersion)
	}
	return version, "/" + rest, nil
}

// Unversioned returns the request without the version prefix of its path, which
// Version tells from then on.
func Unversioned(r *http.Request) (*http.Request, error) {
	version, path, err := SplitVersion(r.URL.Path)
	if err != nil {
		return nil, err
	}
	bare := r.Clone(WithVersion(r.Context(), version))
	bare.URL.Path, bare.URL.RawPath = path, ""
	return bare, nil
}

func isVersionNumber(s string) bool {
	dots := 0
	for _, c := range []byte(s) {
		switch {
		case c == '.':
			dots++
		case c < '0' || c > '9':
			return false
		}
	}
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && dots <= 2
}

// handler answers a request, or returns the error to answer with. It has
// written nothing when it returns one.
type handler func(http.ResponseWriter, *http.Request) error

func (a *API) handle(name string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		err := h(rec, r)
		switch {
		case err == nil:
		case gone(r.Context(), err):
			rec.status = 499 // not sent: what proxies log for a client that left
		default:
			WriteError(rec, err)
			a.logFailure(name, r, rec.status, err)
		}
		a.metrics.observe(name, rec.status, time.Since(start))
	})
}

// logFailure logs what is not the client's fault. While there is no leader every
// request fails, and whoever has sent them here asks again: one line for each
// would be a flood.
func (a *API) logFailure(name string, r *http.Request, status int, err error) {
	switch {
	case status == http.StatusServiceUnavailable:
		a.log.Debug("request not answered", "request", name, "path", r.URL.Path, "error", err)
	case status >= http.StatusInternalServerError:
		a.log.Warn("request failed", "request", name, "path", r.URL.Path, "error", err)
	}
}

// recorder remembers the status for the metrics.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// writeJSON answers with v. It is encoded first, so that an error can still be
// answered with a status of its own.
func writeJSON(w http.ResponseWriter, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, body)
	return nil
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// writeBody answers with JSON, or with an empty body.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	if len(body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nobody is left to tell
}

// readJSON decodes the body into v and returns its bytes. An empty body leaves
// v as it is. A field that v does not have is refused: it would not be
// honoured.
func readJSON(w http.ResponseWriter, r *http.Request, v any) ([]byte, error) {
	contentType := r.Header.Get("Content-Type")
	if contentType == "" && r.ContentLength == 0 {
		return nil, nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		return nil, invalid("unsupported Content-Type header (%s): must be 'application/json'", contentType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, invalid("invalid JSON: the body is larger than %d bytes", maxBody)
	}
	if err != nil {
		return nil, invalid("read body: %v", err)
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	switch err := dec.Decode(v); {
	case errors.Is(err, io.EOF):
		return nil, invalid("invalid JSON: got EOF while reading request body")
	case err != nil:
		return nil, invalid("invalid JSON: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("unexpected content after JSON")
	}
	return body, nil
}

// versionParam reads the version of the object that an update is based on.
func versionParam(r *http.Request, kind string) (uint64, error) {
	raw := r.URL.Query().Get("version")
	version, err := strconv.ParseUint(raw, 10, 64)
	if err != nil {
		return 0, invalid("invalid %s version '%s': %v", kind, raw, err)
	}
	return version, nil
}

// boolParam reads a parameter that must be a boolean; left out it is false.
func boolParam(r *http.Request, name string) (bool, error) {
	raw := r.URL.Query().Get(name)
	if raw == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(raw)
	if err != nil {
		return false, invalid("invalid value for %s: %s: %v", name, raw, err)
	}
	return value, nil
}

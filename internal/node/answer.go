package node

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"shoal/manager/relay"
)

// capture takes an answer in, for one that is made of others.
type capture struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *capture) Header() http.Header { return c.header }

func (c *capture) WriteHeader(status int) { c.status = cmp.Or(c.status, status) }

func (c *capture) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(p)
}

// err is the refusal that an answer is, with a kind of the same status.
func (c *capture) err() error { return relay.Refusal(c.status, c.body.Bytes()) }

// ask has h answer a call that r leads to.
func ask(h http.Handler, r *http.Request, method, path, query string) *capture {
	c := &capture{header: http.Header{}}
	call := r.Clone(r.Context())
	call.Method = method
	call.URL.Path, call.URL.RawPath, call.URL.RawQuery = path, "", query
	restore(call, nil)
	h.ServeHTTP(c, call)
	c.WriteHeader(http.StatusOK)
	return c
}

type originalKey struct{}

// withOriginal notes the path as the client sent it, with its version: the
// engine has to answer in that one.
func withOriginal(r *http.Request, path string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), originalKey{}, path))
}

// enginePath is a path of the engine in the version that r was sent in.
func enginePath(r *http.Request, path string) string {
	original, _ := r.Context().Value(originalKey{}).(string)
	head, _, found := strings.Cut(strings.TrimPrefix(original, "/"), "/")
	if !found || !strings.HasPrefix(head, "v1.") {
		return path
	}
	return "/" + head + path
}

// original passes a request on in the version that it was sent in.
func (e *engineProxy) original(w http.ResponseWriter, r *http.Request) {
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = enginePath(r, r.URL.Path), ""
	e.ServeHTTP(w, r)
}

// call asks the engine for something of this daemon's own, and returns the
// answer. path may have a query.
func (e *engineProxy) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := e.transport.RoundTrip(r)
	if err != nil {
		return 0, nil, fmt.Errorf("the Docker Engine at unix://%s does not answer: %w", e.socket, err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

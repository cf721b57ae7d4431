// Package relay carries calls of the Docker API that are about one container
// to the engine of the node that has it: logs, exec, attach, cp, top, stats.
//
// Caller is the end of a manager, Door that of a node. The door knows which
// calls it lets through, and for which containers: none that makes or removes
// anything, none for a container that the cluster has nothing to do with.
// Nothing is buffered beyond the windows of HTTP/2, so a slow reader slows
// the far end down, and an end that goes away ends the other one.
package relay

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Path is where a node's door is, on its cluster listener. What follows is a
// path of the Docker API. Only managers may call it.
const Path = "/rpc/engine"

// headerHijack makes a request one whose body goes on as a stream: the value
// is the length of what comes before the stream. In an answer it says that the
// body is the other direction; the value is its content type.
const headerHijack = "Shoal-Hijack"

// maxHead is far above what starts an exec.
const maxHead = 1 << 20

// call is a call of the Docker API about one container.
type call struct {
	exec   bool   // ID is that of an exec, else a container
	ID     string // or a name
	action string // last part of the path: "logs"
}

// calls are those that a node's door lets through, by action. What runs in a
// container may be done to it by exec as well, kill included.
func calls(exec bool, action string) (methods []string) {
	if exec {
		switch action {
		case "json":
			return []string{http.MethodGet}
		case "start", "resize":
			return []string{http.MethodPost}
		}
		return nil
	}
	switch action {
	case "json", "logs", "top", "stats", "changes":
		return []string{http.MethodGet}
	case "archive":
		return []string{http.MethodGet, http.MethodHead, http.MethodPut}
	case "attach", "exec", "resize", "wait", "kill", "forward":
		return []string{http.MethodPost}
	}
	return nil
}

// parse reads the path of a call, without version.
func parse(method, path string) (c call, ok bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) != 3 || parts[1] == "" || parts[0] != "containers" && parts[0] != "exec" {
		return c, false
	}
	c = call{exec: parts[0] == "exec", ID: parts[1], action: parts[2]}
	return c, slices.Contains(calls(c.exec, c.action), method)
}

// Carries reports whether a call of the Docker API can be answered by another
// node, and which container or exec it is about.
func Carries(method, path string) (id string, exec, ok bool) {
	c, ok := parse(method, path)
	return c.ID, c.exec, ok && c.action != "forward" // which is not of that API
}

// hijacks reports whether the connection becomes a stream.
func (c call) hijacks() bool {
	return c.action == "attach" || c.action == "forward" || c.exec && c.action == "start"
}

// flushInterval is how long what an engine has said may wait for more: engines
// write each line of a log by itself, and one that goes through two nodes and
// TLS by itself costs ten times what it does in company. Anything else goes on
// at once.
func (c call) flushInterval() time.Duration {
	if c.action == "logs" {
		return 10 * time.Millisecond // below what a user notices
	}
	return -1
}

// path is the path of the call for a container or exec by its whole id.
func (c call) path(id string) string {
	if c.exec {
		return "/exec/" + id + "/" + c.action
	}
	return "/containers/" + id + "/" + c.action
}

// writeError answers in Docker's form.
func writeError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()}) // the client has gone, if it fails
}

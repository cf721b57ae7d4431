package node

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"shoal/internal/id"
	"shoal/manager"
	"shoal/manager/api"
	"shoal/manager/logs"
	"shoal/manager/relay"
)

// elsewhere answers a call that is about a container of another node, or one of
// this node by a name that only the cluster knows. It reports whether it did:
// what the engine here knows, it answers.
func (n *Node) elsewhere(w http.ResponseWriter, r *http.Request) bool {
	ref, exec, ok := relay.Carries(r.Method, r.URL.Path)
	m, _ := n.current()
	if !ok || m == nil || m.manager() == nil {
		return false
	}
	mgr := m.manager()
	if exec {
		return n.execElsewhere(mgr, w, r, ref)
	}
	status, _, err := n.engine.call(r.Context(), http.MethodGet, enginePath(r, "/containers/"+url.PathEscape(ref)+"/json"), nil)
	if err == nil && status != http.StatusNotFound {
		return false
	}
	place, err := mgr.Locate(ref)
	switch {
	case errdefs.IsNotFound(err):
		return false // the engine says so
	case err != nil:
		api.WriteError(w, err)
		return true
	}
	path := strings.Replace(r.URL.Path, "/containers/"+ref+"/", "/containers/"+place.ID+"/", 1)
	if place.NodeID == m.record.Load().NodeID {
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = path, ""
		n.engine.original(w, r)
		return true
	}
	mgr.Relay().Serve(w, r, target(r, place, path), tellExec(r, place.NodeID))
	return true
}

func target(r *http.Request, p api.Place, path string) relay.Target {
	return relay.Target{NodeID: p.NodeID, Name: p.Node, Path: enginePath(r, path), Query: r.URL.RawQuery, TTY: p.TTY}
}

// execSeparator stands between the node and the engine's id in the id of an exec
// on another node: any manager can tell from it where the exec is.
const execSeparator = "-"

// tellExec puts the node into the id of an exec that has been created; nil: the
// call is another one.
func tellExec(r *http.Request, nodeID string) func(*http.Response) error {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/exec") {
		return nil
	}
	return func(answer *http.Response) error {
		if answer.StatusCode != http.StatusCreated {
			return nil
		}
		defer answer.Body.Close()
		var created map[string]any
		if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&created); err != nil {
			return err
		}
		if id, ok := created["Id"].(string); ok {
			created["Id"] = nodeID + execSeparator + id
		}
		body, err := json.Marshal(created)
		if err != nil {
			return err
		}
		answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		answer.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return nil
	}
}

// execElsewhere answers a call about an exec whose id names its node.
func (n *Node) execElsewhere(mgr *manager.Manager, w http.ResponseWriter, r *http.Request, ref string) bool {
	nodeID, execID, found := strings.Cut(ref, execSeparator)
	if !found || !id.Valid(nodeID) {
		return false
	}
	place := api.Place{NodeID: nodeID, Node: mgr.NodeName(nodeID)}
	path := strings.Replace(r.URL.Path, "/exec/"+ref+"/", "/exec/"+execID+"/", 1)
	mgr.Relay().Serve(w, r, target(r, place, path), nil)
	return true
}

// logs answers a call for logs on this manager: they are streams, which a leader
// has no part in.
func (n *Node) logs(serve func(*logs.Logs, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m, _ := n.current()
		if m == nil || m.manager() == nil {
			n.cluster(w, r) // says why not
			return
		}
		serve(m.manager().Logs(), w, r)
	}
}

// forwardPort makes a connection to a port of a container, on whatever node it
// runs.
func (n *Node) forwardPort(w http.ResponseWriter, r *http.Request) {
	m, _ := n.current()
	if m == nil || m.manager() == nil {
		n.cluster(w, r) // says why not
		return
	}
	place, err := m.manager().Locate(r.PathValue("container"))
	if err != nil {
		api.WriteError(w, err)
		return
	}
	m.manager().Relay().Serve(w, r, relay.Target{
		NodeID: place.NodeID, Name: place.Node, TTY: true, // what is not framed
		Path: "/containers/" + place.ID + "/forward", Query: url.Values{"port": {r.URL.Query().Get("port")}}.Encode(),
	}, nil)
}

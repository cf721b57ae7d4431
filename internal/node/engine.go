package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"

	"shoal/manager/api"
)

// ping answers with the headers by which clients choose a version and know
// what this node is.
func (n *Node) ping(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Api-Version", n.maxVersion(r.Context()))
	h.Set("Ostype", "linux")
	n.engine.introduce(r.Context(), h)
	h.Set("Server", "Shoal/"+n.cfg.Version+" (linux)")
	h.Set("Swarm", n.swarmHeader())
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodGet {
		fmt.Fprint(w, "OK")
	}
}

func (n *Node) swarmHeader() string {
	state := n.state()
	if state != swarm.LocalNodeStateActive {
		return string(state)
	}
	if n.controlAvailable() {
		return "active/manager"
	}
	return "active/worker"
}

func (n *Node) controlAvailable() bool {
	m, _ := n.current()
	return m != nil && m.manager() != nil
}

// maxVersion is the newest API version that all calls can be answered in: the
// engine's, up to ours.
func (n *Node) maxVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	engine := n.engine.apiVersion(ctx)
	if engine == "" || newer(engine, api.MaxVersion) {
		return api.MaxVersion
	}
	return engine
}

// newer reports whether API version a comes after b.
func newer(a, b string) bool {
	parse := func(s string) (major, minor int) {
		first, second, _ := strings.Cut(s, ".")
		major, _ = strconv.Atoi(first)
		minor, _ = strconv.Atoi(second)
		return major, minor
	}
	majorA, minorA := parse(a)
	majorB, minorB := parse(b)
	return majorA > majorB || majorA == majorB && minorA > minorB
}

// version is the engine's, with the API versions that this socket speaks.
func (n *Node) version(w http.ResponseWriter, r *http.Request) {
	answer := map[string]json.RawMessage{}
	if err := n.engine.get(r.Context(), "/version", &answer); err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	answer["ApiVersion"] = quote(n.maxVersion(r.Context()))
	answer["MinAPIVersion"] = quote(api.MinVersion)
	writeJSON(w, answer)
}

func quote(s string) json.RawMessage {
	text, _ := json.Marshal(s) // a string never fails
	return text
}

// shoalVersion says what this binary is and which cluster it is in.
func (n *Node) shoalVersion(w http.ResponseWriter, r *http.Request) {
	answer := map[string]string{
		"Version": n.cfg.Version, "ApiVersion": n.maxVersion(r.Context()), "MinAPIVersion": api.MinVersion,
		"State": string(n.state()), "Engine": n.cfg.Engine,
	}
	if m, _ := n.current(); m != nil {
		answer["NodeID"], answer["ClusterID"], answer["Role"] = m.record.Load().NodeID, m.record.Load().ClusterID, string(m.role())
	}
	writeJSON(w, answer)
}

// info is the engine's, with the cluster's part put in.
func (n *Node) info(w http.ResponseWriter, r *http.Request) {
	answer := map[string]json.RawMessage{}
	if err := n.engine.get(r.Context(), "/info", &answer); err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	cluster := n.swarmInfo()
	text, err := json.Marshal(cluster)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	answer["Swarm"] = text
	if len(cluster.Warnings) > 0 {
		var warnings []string
		_ = json.Unmarshal(answer["Warnings"], &warnings) // absent or null: none
		answer["Warnings"], _ = json.Marshal(append(warnings, cluster.Warnings...))
	}
	writeJSON(w, answer)
}

func (n *Node) swarmInfo() swarm.Info {
	m, failure := n.current()
	info := swarm.Info{LocalNodeState: n.state(), ControlAvailable: n.controlAvailable()}
	if failure != nil {
		info.Error = failure.Error()
	}
	if m == nil {
		return info
	}
	info.NodeID = m.record.Load().NodeID
	info.NodeAddr, _, _ = net.SplitHostPort(m.record.Load().Advertise)
	for _, peer := range m.managers() {
		info.RemoteManagers = append(info.RemoteManagers, swarm.Peer{NodeID: peer.NodeID, Addr: peer.Addr})
	}
	if manager := m.manager(); manager != nil {
		manager.Describe(&info)
	}
	return info
}

// events streams the engine's events, and on a manager between them the
// cluster's, and those of its containers on other nodes.
func (n *Node) events(w http.ResponseWriter, r *http.Request) {
	m, _ := n.current()
	if m == nil || m.manager() == nil {
		n.engine.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &eventWriter{w: w, control: http.NewResponseController(w)}
	mgr := m.manager()
	var all errgroup.Group
	for _, tell := range []func() error{
		func() error { return mgr.Events(ctx, r.URL.Query(), out.write) },
		func() error { return mgr.ContainerEvents(ctx, r.URL.Query(), out.write) },
		func() error { return n.engine.events(ctx, r.URL.RawQuery, placed(m, mgr, out.write)) },
	} {
		all.Go(func() error {
			err := tell()
			if err != nil { // they end by themselves when the query has an end
				cancel()
			}
			return err
		})
	}
	err := all.Wait()
	if err != nil && r.Context().Err() == nil && !out.begun() {
		api.WriteError(w, err)
	}
}

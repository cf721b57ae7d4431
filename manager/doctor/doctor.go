// Package doctor has every node of the cluster look at itself and at its ways to
// the others, and puts together what they say.
//
// It runs on the leader when someone asks, and writes nothing.
package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"shoal/overlay"
	"shoal/overlay/check"
	"shoal/raftstore/state"
)

const (
	// atOnce is how many nodes are asked at a time: all of them in any cluster that
	// we know, for nodes answer each other's probes only while they are asked.
	atOnce = 1000
	// patience is what one node gets for its answer.
	patience = 5 * time.Second
	// window is how long nodes probe each other: the last one must have been asked
	// well before the first one stops to answer.
	window = 2 * time.Second
	// maxReport is far above what a node of a large cluster has to say.
	maxReport = 16 << 20
)

// Examine asks all nodes of the cluster. client reaches every node at its
// cluster address.
func Examine(ctx context.Context, v *state.View, client *http.Client) (check.Diagnosis, error) {
	if v.Cluster() == nil {
		return check.Diagnosis{}, fmt.Errorf("examine the cluster: its state has not arrived yet: %w", errdefs.ErrUnavailable)
	}
	asked := nodes(v)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range asked {
		g.Go(func() error {
			ask(ctx, client, request(v, asked, i), &asked[i])
			return nil
		})
	}
	_ = g.Wait() // a node that cannot be asked is a finding
	if err := ctx.Err(); err != nil {
		return check.Diagnosis{}, err
	}
	return check.Merge(asked), nil
}

func nodes(v *state.View) (asked []check.Asked) {
	for n := range v.Nodes() {
		a := check.Asked{Peer: check.Peer{NodeID: n.ID, Addr: n.Addr}, Name: n.Description.Hostname}
		if a.Name == "" {
			a.Name = n.ID
		}
		for _, m := range n.Mesh {
			if m.Addr().Is4() {
				_, _, a.Mesh = overlay.MeshAddrs(m)
			}
		}
		asked = append(asked, a)
	}
	return asked
}

// request is what node number self is asked for.
func request(v *state.View, asked []check.Asked, self int) check.Request {
	cluster := v.Cluster()
	r := check.Request{Self: asked[self].Peer, Pool: cluster.MeshPool, Port: cmp.Or(int(cluster.DataPathPort), overlay.DefaultPort), Window: window}
	for i, a := range asked {
		if i != self {
			r.Peers = append(r.Peers, a.Peer)
		}
	}
	if cluster.MeshPool.IsValid() {
		r.Subnets = append(r.Subnets, cluster.MeshPool)
	}
	for n := range v.Networks() {
		for _, p := range n.Pools {
			r.Subnets = append(r.Subnets, p.Subnet)
		}
	}
	for _, text := range cluster.DefaultAddrPool {
		if p, err := netip.ParsePrefix(text); err == nil { // checked when it was set
			r.Pools = append(r.Pools, p)
		}
	}
	return r
}

// ask puts a node's report, or why there is none, into a.
func ask(ctx context.Context, client *http.Client, r check.Request, a *check.Asked) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a.Began = time.Now()
	a.Report, a.Err = call(ctx, client, r)
	a.Ended = time.Now()
	if a.Err == nil && a.Report.NodeID != a.NodeID {
		a.Err = fmt.Errorf("node %s answers there: %w", a.Report.NodeID, errdefs.ErrConflict)
	}
}

func call(ctx context.Context, client *http.Client, r check.Request) (report check.Report, err error) {
	if r.Self.Addr == "" {
		return report, fmt.Errorf("its address is not known: %w", errdefs.ErrUnavailable)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return report, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+r.Self.Addr+check.Path, bytes.NewReader(body))
	if err != nil {
		return report, err
	}
	response, err := client.Do(request)
	if err != nil {
		return report, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return report, fmt.Errorf("%s: %s: %w", response.Status, bytes.TrimSpace(text), errdefs.ErrUnavailable)
	}
	return report, json.NewDecoder(io.LimitReader(response.Body, maxReport)).Decode(&report)
}

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/pki"
	"shoal/manager"
	"shoal/manager/api"
	"shoal/manager/ca"
)

// joinWait is how long init and join wait for the node to be part of the
// cluster. After that it goes on in the background.
const joinWait = 20 * time.Second

var (
	errAlready = unavailable(`This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.`)
	errNotPart = unavailable("This node is not part of a swarm")
	errTimeout = unavailable(`Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "docker info" command to see the current swarm status of your node`)
)

// initRequest is Docker's, and what shoal alone has.
type initRequest struct {
	swarm.InitRequest
	MeshPool string // where the nodes' own networks are taken from
}

func (n *Node) handleInit(w http.ResponseWriter, r *http.Request) {
	var request initRequest
	if err := decode(w, r, &request); err != nil {
		api.WriteError(w, err)
		return
	}
	nodeID, err := n.init(r.Context(), request)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	writeJSON(w, nodeID)
}

func (n *Node) handleJoin(w http.ResponseWriter, r *http.Request) {
	var request swarm.JoinRequest
	if err := decode(w, r, &request); err != nil {
		api.WriteError(w, err)
		return
	}
	if err := n.join(r.Context(), request); err != nil {
		api.WriteError(w, err)
	}
}

func (n *Node) handleUnlock(w http.ResponseWriter, _ *http.Request) {
	if m, _ := n.current(); m == nil {
		api.WriteError(w, errNotPart)
		return
	}
	writeError(w, http.StatusConflict, errors.New("swarm is not locked"))
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	if err := dec.Decode(into); err != nil {
		return invalid("request body is not the JSON that is expected here: %v", err)
	}
	return nil
}

// init starts a cluster of this node alone.
func (n *Node) init(ctx context.Context, request initRequest) (nodeID string, err error) {
	n.change.Lock()
	defer n.change.Unlock()
	if m, _ := n.current(); m != nil {
		return "", errAlready
	}
	if err := checkInit(request); err != nil {
		return "", err
	}
	addrs, err := n.addresses(request.ListenAddr, request.AdvertiseAddr)
	if err != nil {
		return "", err
	}
	if err := n.tryListen(addrs); err != nil {
		return "", err
	}
	founding, credential, err := n.found(request, addrs)
	if err != nil {
		return "", errors.Join(err, n.cfg.wipe())
	}
	r := n.newRecord(credential.Identity(), addrs)
	r.Managers = []pki.Manager{{NodeID: r.NodeID, Addr: addrs.advertise}}
	key, err := makeDataKey(n.cfg.dataKey())
	if err == nil {
		err = errors.Join(r.sealGossipKeys(key, founding.Cluster.GossipKeys), r.makeTunnelKey(key))
	}
	if err != nil {
		return "", errors.Join(err, n.cfg.wipe())
	}
	m := newMember(n, r, founding)
	n.start(m)
	// The record is what makes the membership last, so it comes after the
	// cluster has come up: nobody else knows of one that has not.
	if err := n.awaitReady(ctx, m); err != nil {
		err = n.notUp(m, err)
		n.stop(m)
		return "", errors.Join(err, n.cfg.wipe())
	}
	if err := m.saveRecord(); err != nil {
		n.stop(m)
		return "", errors.Join(err, n.cfg.wipe())
	}
	return r.NodeID, os.RemoveAll(n.cfg.unfinished())
}

// checkInit refuses what this version cannot do.
func checkInit(r initRequest) error {
	refuse := func(field, why string) error { return unsupported("%s: %s", field, why) }
	switch {
	case r.ForceNewCluster:
		return refuse("ForceNewCluster (--force-new-cluster)", "recovery from a lost quorum is not there yet")
	case r.AutoLockManagers:
		return refuse("AutoLockManagers (--autolock)", "managers cannot be locked yet; what they store is sealed with a key in the state directory")
	case r.DataPathAddr != "":
		return refuse("DataPathAddr (--data-path-addr)", "the traffic of containers goes to the address that is advertised")
	}
	return api.CheckNewSwarm(ca.DefaultSpec(), r.Spec)
}

// found makes the identity and the first objects of a new cluster.
func (n *Node) found(request initRequest, addrs addresses) (*manager.Founding, *pki.Credential, error) {
	if err := n.cfg.begin(); err != nil {
		return nil, nil, err
	}
	now := time.Now()
	cluster, err := ca.NewCluster(ca.Founding{
		Spec: request.Spec, DefaultAddrPool: request.DefaultAddrPool, SubnetSize: request.SubnetSize, DataPathPort: request.DataPathPort,
		MeshPool: request.MeshPool,
	}, now)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, csrPEM, err := pki.NewKeyAndCSR()
	if err != nil {
		return nil, nil, err
	}
	first, certPEM, err := ca.FirstNode(cluster, pki.JoinRequest{
		CSR: csrPEM, Addr: addrs.advertise, GossipAddr: n.gossipAddr(addrs), Hostname: hostname(), Availability: string(request.Availability),
	}, now)
	if err != nil {
		return nil, nil, err
	}
	credential, err := n.newCredential(keyPEM, certPEM, cluster.RootCert)
	if err != nil {
		return nil, nil, err
	}
	return &manager.Founding{Cluster: cluster, Node: first}, credential, nil
}

// join makes this node part of the cluster that the token is of.
func (n *Node) join(ctx context.Context, request swarm.JoinRequest) error {
	n.change.Lock()
	defer n.change.Unlock()
	if m, _ := n.current(); m != nil {
		return errAlready
	}
	token, err := checkJoin(request)
	if err != nil {
		return err
	}
	addrs, err := n.addresses(request.ListenAddr, request.AdvertiseAddr)
	if err != nil {
		return err
	}
	if err := n.tryListen(addrs); err != nil {
		return err
	}
	m, err := n.askToJoin(ctx, request, token, addrs)
	if err != nil {
		return errors.Join(err, n.cfg.wipe())
	}
	n.start(m)
	return n.awaitReady(ctx, m)
}

func checkJoin(r swarm.JoinRequest) (pki.Token, error) {
	if r.DataPathAddr != "" {
		return pki.Token{}, unsupported("DataPathAddr (--data-path-addr): the traffic of containers goes to the address that is advertised")
	}
	if len(r.RemoteAddrs) == 0 {
		return pki.Token{}, invalid("at least 1 RemoteAddr is required to join")
	}
	for _, addr := range r.RemoteAddrs {
		if _, _, err := splitAddress(addr, "", defaultPort); err != nil || addr == "" {
			return pki.Token{}, invalid("RemoteAddrs: %q is not HOST:PORT of a manager", addr)
		}
	}
	switch r.Availability {
	case "", swarm.NodeAvailabilityActive, swarm.NodeAvailabilityPause, swarm.NodeAvailabilityDrain:
	default:
		return pki.Token{}, invalid("Availability: %q is not active, pause or drain", r.Availability)
	}
	if r.JoinToken == "" {
		return pki.Token{}, pki.ErrTokenRefused
	}
	return pki.ParseToken(r.JoinToken)
}

// askToJoin asks one manager after the other for a certificate.
func (n *Node) askToJoin(ctx context.Context, request swarm.JoinRequest, token pki.Token, addrs addresses) (*member, error) {
	if err := n.cfg.begin(); err != nil {
		return nil, err
	}
	keyPEM, csrPEM, err := pki.NewKeyAndCSR()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	var failures error
	for _, remote := range request.RemoteAddrs {
		host, port, _ := splitAddress(remote, "", defaultPort) // checked before
		response, err := pki.FetchJoin(ctx, net.JoinHostPort(host, port), token, pki.JoinRequest{
			Token: token.Text(), CSR: csrPEM, Addr: addrs.advertise, GossipAddr: n.gossipAddr(addrs),
			Hostname: hostname(), Availability: string(request.Availability),
		})
		if err != nil {
			failures = errors.Join(failures, err) // names the address
			continue
		}
		return n.admitted(response, keyPEM, addrs)
	}
	return nil, failures
}

// admitted writes down what the cluster has given this node.
func (n *Node) admitted(response *pki.JoinResponse, keyPEM []byte, addrs addresses) (*member, error) {
	credential, err := n.newCredential(keyPEM, response.Certificate, response.RootCert)
	if err != nil {
		return nil, err
	}
	key, err := makeDataKey(n.cfg.dataKey())
	if err != nil {
		return nil, err
	}
	r := n.newRecord(credential.Identity(), addrs)
	r.Managers = response.Managers
	if err := errors.Join(r.sealGossipKeys(key, response.GossipKeys), r.makeTunnelKey(key)); err != nil {
		return nil, err
	}
	if err := r.save(n.cfg.record()); err != nil {
		return nil, err
	}
	return newMember(n, r, nil), os.RemoveAll(n.cfg.unfinished())
}

func (n *Node) newCredential(keyPEM, certPEM, rootPEM []byte) (*pki.Credential, error) {
	if err := os.MkdirAll(n.cfg.certDir(), 0o700); err != nil {
		return nil, err
	}
	return pki.NewCredential(n.cfg.certDir(), keyPEM, certPEM, rootPEM)
}

// awaitReady waits until the node is part of the cluster.
func (n *Node) awaitReady(ctx context.Context, m *member) error {
	timeout := time.NewTimer(joinWait)
	defer timeout.Stop()
	select {
	case <-m.ready:
		return nil
	case <-timeout.C:
		if _, err := n.current(); err != nil {
			return fmt.Errorf("%w (%w)", errTimeout, err)
		}
		return errTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notUp says why a new cluster did not come up in time. Unlike a join, init
// gives up then.
func (n *Node) notUp(m *member, err error) error {
	if !errors.Is(err, errTimeout) {
		return err
	}
	const text = "the new cluster did not come up within %s and was given up: %v"
	if _, failure := n.current(); failure != nil {
		return unavailable(text, joinWait, failure)
	}
	return unavailable(text, joinWait, fmt.Sprintf("this node does not reach itself at %s: choose an address of this machine with --advertise-addr, and see that no firewall is in the way", m.record.Load().Advertise))
}

func (n *Node) newRecord(identity pki.Identity, addrs addresses) *record {
	return &record{Version: recordVersion, NodeID: identity.NodeID, ClusterID: identity.ClusterID, Listen: addrs.listen, Advertise: addrs.advertise, Asked: &addrs.asked}
}

// addresses are those of the request, else those of the daemon's flags.
func (n *Node) addresses(listen, advertise string) (addresses, error) {
	if listen == "0.0.0.0:2377" {
		listen = "" // the docker CLI sends its default always
	}
	a, err := resolveAddresses(cmp.Or(listen, n.cfg.ListenAddr), cmp.Or(advertise, n.cfg.AdvertiseAddr))
	a.asked = asked{listen, advertise}
	return a, err
}

// tryListen finds out before anything is written that a port is taken.
func (n *Node) tryListen(a addresses) error {
	if err := tryPort("tcp", a.listen, "another port can be chosen with --listen-addr"); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(a.listen)
	gossip := net.JoinHostPort(host, strconv.Itoa(n.cfg.GossipPort))
	const wayOut = "free it: all nodes use one port for gossip, that of the daemon's --gossip-port"
	return errors.Join(tryPort("tcp", gossip, wayOut), tryPort("udp", gossip, wayOut))
}

func tryPort(network, addr, wayOut string) error {
	var l io.Closer
	var err error
	if network == "udp" {
		l, err = net.ListenPacket(network, addr)
	} else {
		l, err = net.Listen(network, addr)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failed("listen address %s/%s is in use by another process: %s", addr, network, wayOut)
	case err != nil:
		return failed("listen address %s/%s: %v", addr, network, err)
	}
	return l.Close()
}

func (n *Node) gossipAddr(a addresses) string {
	host, _, _ := net.SplitHostPort(a.advertise)
	return net.JoinHostPort(host, strconv.Itoa(n.cfg.GossipPort))
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

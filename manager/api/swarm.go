package api

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"reflect"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

func (a *API) inspectSwarm(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	c := v.Cluster()
	if c == nil {
		return noCluster()
	}
	out := swarm.Swarm{ClusterInfo: PresentCluster(c)}
	out.JoinTokens.Worker, out.JoinTokens.Manager = a.config.Tokens(v)
	if c.Rebalance != "" {
		return writeJSON(w, wireSwarm{out, wireSwarmSpec{out.Spec, &c.Rebalance}})
	}
	return writeJSON(w, out)
}

// wireSwarm is the cluster with such a spec.
type wireSwarm struct {
	swarm.Swarm
	Spec wireSwarmSpec
}

// wireSwarmSpec is the cluster's spec as it is sent: Docker's, and beside it what
// only shoal knows. As with services, an update without it keeps it.
type wireSwarmSpec struct {
	swarm.Spec
	Rebalance *state.Rebalance `json:",omitempty"`
}

func noCluster() error {
	return errdefs.ErrUnavailable.WithMessage(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

// PresentCluster is what clients see of the cluster: everything but its keys.
func PresentCluster(c *state.Cluster) swarm.ClusterInfo {
	out := c.ClusterInfo // RootKey, GossipKeys, OverlayKeys and Tokens stay behind
	out.Spec.CAConfig.SigningCACert, out.Spec.CAConfig.SigningCAKey = "", ""
	if out.Spec.Labels == nil {
		out.Spec.Labels = map[string]string{}
	}
	if out.TLSInfo.TrustRoot == "" {
		out.TLSInfo = tlsInfo(c.RootCert)
	}
	return out
}

func tlsInfo(rootPEM []byte) swarm.TLSInfo {
	info := swarm.TLSInfo{TrustRoot: string(rootPEM)}
	if block, _ := pem.Decode(rootPEM); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			info.CertIssuerSubject, info.CertIssuerPublicKey = cert.RawSubject, cert.RawSubjectPublicKeyInfo
		}
	}
	return info
}

// unlockKey answers with no key: managers are not locked.
func (a *API) unlockKey(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, swarm.UnlockKeyResponse{})
}

func (a *API) updateSwarm(w http.ResponseWriter, r *http.Request) error {
	var sent wireSwarmSpec
	body, err := readJSON(w, r, &sent)
	if err != nil {
		return err
	}
	if err := validateRebalance(sent.Rebalance); err != nil {
		return err
	}
	version, err := versionParam(r, "swarm")
	if err != nil {
		return err
	}
	roles, err := a.rotations(r)
	if err != nil {
		return err
	}
	out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
		changes, err := a.planSwarmUpdate(v, version, sent, roles)
		return changes, outcome{status: http.StatusOK}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// rotations reads which join tokens to replace.
func (a *API) rotations(r *http.Request) (roles []swarm.NodeRole, err error) {
	for _, p := range []struct {
		name string
		role swarm.NodeRole
	}{{"rotateWorkerToken", swarm.NodeRoleWorker}, {"rotateManagerToken", swarm.NodeRoleManager}} {
		wanted, err := boolParam(r, p.name)
		if err != nil {
			return nil, err
		}
		if wanted && a.config.RotateTokens == nil {
			return nil, unsupported(p.name, "leave it out")
		}
		if wanted {
			roles = append(roles, p.role)
		}
	}
	wanted, err := boolParam(r, "rotateManagerUnlockKey")
	if err != nil {
		return nil, err
	}
	if wanted {
		return nil, unsupported("rotateManagerUnlockKey", "managers cannot be locked yet, leave it out")
	}
	return roles, nil
}

// planSwarmUpdate replaces the cluster's spec and the join tokens of roles.
func (a *API) planSwarmUpdate(v *state.View, version uint64, sent wireSwarmSpec, roles []swarm.NodeRole) ([]state.Change, error) {
	old := v.Cluster()
	if old == nil {
		return nil, noCluster()
	}
	spec, err := mergeSwarmSpec(old.Spec, sent.Spec)
	if err != nil {
		return nil, err
	}
	if version != old.Version.Index {
		return nil, outOfSequence()
	}
	c := *old
	c.Spec = spec
	if sent.Rebalance != nil {
		c.Rebalance = *sent.Rebalance
	}
	next := &c
	if len(roles) > 0 {
		if next, err = a.config.RotateTokens(next, roles...); err != nil {
			return nil, err
		}
	}
	return []state.Change{state.Put(next)}, nil
}

// CheckNewSwarm checks the spec of a cluster that is to be made, against the one
// that it would have by default: what cannot be changed later cannot be given
// at first either.
func CheckNewSwarm(defaults, spec swarm.Spec) error {
	if spec.Name == "" {
		spec.Name = defaults.Name
	}
	_, err := mergeSwarmSpec(defaults, spec)
	return err
}

// mergeSwarmSpec checks a new spec. Fields that are zero keep their value:
// Swarm would store the zero, which it then takes for the default or, worse,
// does not.
func mergeSwarmSpec(old, spec swarm.Spec) (swarm.Spec, error) {
	if spec.Name == "" { // python3-docker sends none
		spec.Name = "default"
	}
	if spec.Name != "default" {
		return spec, rpcInvalid("modification of cluster name is not allowed")
	}
	dropEmpty(reflect.ValueOf(&spec))
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	if spec.Orchestration.TaskHistoryRetentionLimit == nil {
		spec.Orchestration = old.Orchestration
	}
	if err := mergeFixed(old, &spec); err != nil {
		return spec, err
	}
	if spec.CAConfig.NodeCertExpiry == 0 {
		spec.CAConfig.NodeCertExpiry = old.CAConfig.NodeCertExpiry
	}
	if d := spec.CAConfig.NodeCertExpiry; d != 0 && d < time.Hour {
		return spec, rpcInvalid("minimum certificate expiry time is: %s", time.Hour)
	}
	return spec, checkLaterSwarm(old, spec)
}

// mergeFixed refuses to change what the managers have built in.
func mergeFixed(old swarm.Spec, spec *swarm.Spec) error {
	if spec.Dispatcher.HeartbeatPeriod < 0 {
		return rpcInvalid("heartbeat time period cannot be a negative duration")
	}
	if d := spec.Dispatcher.HeartbeatPeriod; d != 0 && d != old.Dispatcher.HeartbeatPeriod {
		return unsupported("Dispatcher.HeartbeatPeriod", "nodes are declared down after 8 s without a sign of life, leave the field as GET /swarm returns it")
	}
	spec.Dispatcher = old.Dispatcher
	given, fixed := spec.Raft, old.Raft
	for _, f := range []struct {
		name    string
		changed bool
	}{
		{"SnapshotInterval", given.SnapshotInterval != 0 && given.SnapshotInterval != fixed.SnapshotInterval},
		{"KeepOldSnapshots", given.KeepOldSnapshots != nil && *given.KeepOldSnapshots != deref(fixed.KeepOldSnapshots)},
		{"LogEntriesForSlowFollowers", given.LogEntriesForSlowFollowers != 0 && given.LogEntriesForSlowFollowers != fixed.LogEntriesForSlowFollowers},
		{"ElectionTick", given.ElectionTick != 0 && given.ElectionTick != fixed.ElectionTick},
		{"HeartbeatTick", given.HeartbeatTick != 0 && given.HeartbeatTick != fixed.HeartbeatTick},
	} {
		if f.changed {
			return unsupported("Raft."+f.name, "leave the field as GET /swarm returns it")
		}
	}
	spec.Raft = fixed
	return nil
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// checkLaterSwarm refuses what a later version will do.
func checkLaterSwarm(old, spec swarm.Spec) error {
	ca := spec.CAConfig
	switch {
	case len(ca.ExternalCAs) > 0:
		return unsupported("CAConfig.ExternalCAs", "the built-in CA signs all certificates, leave it out")
	case ca.SigningCACert != "" || ca.SigningCAKey != "":
		return unsupported("CAConfig.SigningCACert and SigningCAKey", "the built-in CA keeps its own, leave them out")
	case ca.ForceRotate != old.CAConfig.ForceRotate:
		return unsupported("CAConfig.ForceRotate", "the root certificate cannot be rotated yet, leave it as GET /swarm returns it")
	case spec.EncryptionConfig.AutoLockManagers:
		return unsupported("EncryptionConfig.AutoLockManagers", "managers cannot be locked yet, set it to false")
	case !reflect.DeepEqual(spec.TaskDefaults.LogDriver, old.TaskDefaults.LogDriver):
		return unsupported("TaskDefaults.LogDriver", "set TaskTemplate.LogDriver of each service")
	}
	return nil
}

package allocator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// Options of the driver that a network may have. All others are refused by
// name: nothing would come of them.
const (
	OptionEncrypted = "encrypted"
	OptionMTU       = "com.docker.network.driver.mtu"
	OptionVNI       = "com.docker.network.driver.overlay.vxlanid_list"

	// optionSerial is what Swarm's networks say of their address driver; it is
	// how addresses are given out here too.
	optionSerial = "com.docker.network.ipam.serial"
)

// Numbers of VXLAN networks.
const (
	meshVNI  = 4095 // of the network between the nodes: no user's network has it
	firstVNI = 4097 // 4096 is that of ingress, as in Swarm
	lastVNI  = 1<<24 - 1
)

// Bounds of a network's MTU: the least that the families ask of a link, and
// the most that fits in a packet of 64 KiB with VXLAN's headers.
const (
	minMTU  = 576
	minMTU6 = 1280
	maxMTU  = 65535 - 50
)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func refused(format string, args ...any) error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(format, args...))
}

func unsupported(field, instead string) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("%s: not supported by this version of shoal; %s", field, instead))
}

// CheckNetwork refuses a network that no state of the cluster could take in.
func CheckNetwork(r *network.CreateRequest) error {
	if err := checkKind(r); err != nil {
		return err
	}
	if _, err := readOptions(r); err != nil {
		return err
	}
	_, err := readPools(r)
	return err
}

// NewNetwork makes the network that r asks for: its number and its subnets are
// those asked for, else the lowest that no other network of the view has.
func NewNetwork(v *state.View, id string, r *network.CreateRequest) (*state.Network, error) {
	if err := checkKind(r); err != nil {
		return nil, err
	}
	o, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	pools, err := allocatePools(v, r)
	if err != nil {
		return nil, err
	}
	n := &state.Network{Pools: pools, Encrypted: o.encrypted, MTU: o.mtu}
	if n.VNI, err = allocateVNI(v, o.vni); err != nil {
		return nil, err
	}
	n.ID, n.Spec = id, spec(r)
	n.DriverState = swarm.Driver{Name: "overlay", Options: maps.Clone(r.Options)}
	if n.DriverState.Options == nil {
		n.DriverState.Options = map[string]string{}
	}
	n.DriverState.Options[OptionVNI] = strconv.FormatUint(uint64(n.VNI), 10)
	n.IPAMOptions = &swarm.IPAMOptions{Driver: swarm.Driver{Name: "default"}, Configs: configs(pools)}
	return n, nil
}

// spec is what was asked for, in the form of the cluster's API.
func spec(r *network.CreateRequest) swarm.NetworkSpec {
	s := swarm.NetworkSpec{
		Annotations:         swarm.Annotations{Name: r.Name, Labels: maps.Clone(r.Labels)},
		DriverConfiguration: &swarm.Driver{Name: "overlay", Options: maps.Clone(r.Options)},
		IPv6Enabled:         enabled(r.EnableIPv6, false), Internal: r.Internal, Attachable: r.Attachable, Ingress: r.Ingress,
		Scope: "swarm",
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	if r.IPAM != nil {
		s.IPAMOptions = &swarm.IPAMOptions{Driver: swarm.Driver{Name: r.IPAM.Driver}}
		for _, c := range r.IPAM.Config {
			s.IPAMOptions.Configs = append(s.IPAMOptions.Configs, swarm.IPAMConfig{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway})
		}
	}
	return s
}

func configs(pools []state.Pool) (out []swarm.IPAMConfig) {
	for _, p := range pools {
		c := swarm.IPAMConfig{Subnet: p.Subnet.String(), Gateway: p.Gateway.String()}
		if p.Range.IsValid() {
			c.Range = p.Range.String()
		}
		out = append(out, c)
	}
	return out
}

func enabled(p *bool, otherwise bool) bool {
	if p == nil {
		return otherwise
	}
	return *p
}

// checkKind refuses the kinds of networks that are the engine's alone.
func checkKind(r *network.CreateRequest) error {
	switch {
	case r.ConfigOnly:
		return unsupported("ConfigOnly (--config-only)", "a network of the cluster carries its own configuration")
	case r.ConfigFrom != nil && r.ConfigFrom.Network != "":
		return unsupported("ConfigFrom (--config-from)", "a network of the cluster carries its own configuration")
	case r.Ingress && cmp.Or(r.Driver, "overlay") != "overlay":
		return errdefs.ErrNotImplemented.WithMessage("rpc error: code = Unimplemented desc = only overlay driver is currently supported for ingress network")
	case cmp.Or(r.Driver, "overlay") != "overlay":
		return unsupported("Driver "+r.Driver+" with scope swarm", "networks of the cluster have driver overlay")
	case r.Scope != "" && r.Scope != "swarm" && r.Scope != "global":
		return invalid("invalid Scope: %q, networks with driver overlay have scope swarm", r.Scope)
	case r.Ingress && r.Attachable:
		return errdefs.ErrInvalidArgument.WithMessage("rpc error: code = InvalidArgument desc = ingress network cannot be attachable")
	case !enabled(r.EnableIPv4, true):
		return invalid("IPv4 cannot be disabled in a Swarm scoped network")
	case r.IPAM == nil:
		return nil
	case cmp.Or(r.IPAM.Driver, "default") != "default":
		return unsupported("IPAM.Driver "+r.IPAM.Driver, "addresses are given out by the managers: leave it out")
	}
	for _, key := range slices.Sorted(maps.Keys(r.IPAM.Options)) {
		if key != optionSerial {
			return unsupported("IPAM.Options "+key, "the managers' address driver has no options: leave it out")
		}
	}
	return nil
}

// options are the options of the driver, read.
type options struct {
	encrypted bool
	mtu       int
	vni       uint32
}

func readOptions(r *network.CreateRequest) (o options, err error) {
	for _, key := range slices.Sorted(maps.Keys(r.Options)) {
		value := r.Options[key]
		switch key {
		case OptionEncrypted:
			o.encrypted, err = strconv.ParseBool(cmp.Or(value, "true"))
			if err != nil {
				return o, invalid("invalid option %s: %q, allowed are true and false", key, value)
			}
		case OptionMTU:
			least := minMTU
			if enabled(r.EnableIPv6, false) {
				least = minMTU6
			}
			o.mtu, err = strconv.Atoi(value)
			if err != nil || o.mtu < least || o.mtu > maxMTU {
				return o, invalid("invalid option %s: %q, allowed are %d to %d", key, value, least, maxMTU)
			}
		case OptionVNI:
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil || n == 0 || n > lastVNI || n == meshVNI {
				return o, invalid("invalid option %s: %q, allowed is one number from 1 to %d; %d is that of the network between the nodes", key, value, lastVNI, meshVNI)
			}
			o.vni = uint32(n)
		default:
			return o, unsupported("Options "+key, "known are "+OptionEncrypted+", "+OptionMTU+" and "+OptionVNI)
		}
	}
	if o.encrypted && r.Ingress {
		return o, unsupported("Options encrypted of an ingress network", "published ports travel between the nodes' own addresses: leave it out")
	}
	return o, nil
}

// allocateVNI returns wish if it is free; wish 0 is the lowest that is.
func allocateVNI(v *state.View, wish uint32) (uint32, error) {
	if wish != 0 {
		if other := v.NetworkByVNI(wish); other != nil {
			return 0, refused("option %s: VXLAN number %d is that of network %s", OptionVNI, wish, other.Spec.Name)
		}
		return wish, nil
	}
	for vni := uint32(firstVNI); vni <= lastVNI; vni++ {
		if v.NetworkByVNI(vni) == nil {
			return vni, nil
		}
	}
	return 0, refused("all VXLAN numbers up to %d are taken: remove networks", lastVNI)
}

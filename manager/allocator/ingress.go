package allocator

import (
	"fmt"
	"net/netip"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/id"
	"shoal/raftstore/state"
)

// ingressVNI is that of the first network of a cluster, as in Docker Swarm.
const ingressVNI = 4096

// FirstIngress makes the ingress network of a new cluster.
func FirstIngress(c *state.Cluster) (*state.Network, error) {
	text, mask := "10.0.0.0/8", 24
	if len(c.DefaultAddrPool) > 0 {
		text = c.DefaultAddrPool[0]
	}
	if c.SubnetSize != 0 {
		mask = int(c.SubnetSize)
	}
	pool, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("default address pool: %w", err)
	}
	return Ingress(pool, max(mask, pool.Bits())), nil
}

// Ingress makes the network that published ports belong to: the first subnet
// of pool, with masks of this length.
func Ingress(pool netip.Prefix, mask int) *state.Network {
	subnet := netip.PrefixFrom(pool.Masked().Addr(), mask)
	gateway := subnet.Addr().Next()
	return &state.Network{
		Network: swarm.Network{
			ID: id.New(),
			Spec: swarm.NetworkSpec{
				Annotations:         swarm.Annotations{Name: "ingress", Labels: map[string]string{}},
				DriverConfiguration: &swarm.Driver{},
				Ingress:             true,
				IPAMOptions:         &swarm.IPAMOptions{},
				Scope:               "swarm",
			},
			DriverState: swarm.Driver{Name: "overlay", Options: map[string]string{"com.docker.network.driver.overlay.vxlanid_list": "4096"}},
			IPAMOptions: &swarm.IPAMOptions{
				Driver:  swarm.Driver{Name: "default"},
				Configs: []swarm.IPAMConfig{{Subnet: subnet.String(), Gateway: gateway.String()}},
			},
		},
		VNI:   ingressVNI,
		Pools: []state.Pool{{Subnet: subnet, Gateway: gateway}},
	}
}

package allocator

import (
	"net/netip"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/id"
	"shoal/raftstore/state"
)

// ingressVNI is that of the first network of a cluster, as in Docker Swarm.
const ingressVNI = 4096

// Ingress makes the network that published ports belong to: the first subnet
// of pool, with masks of this length.
func Ingress(pool netip.Prefix, mask int) *state.Network {
	subnet := netip.PrefixFrom(pool.Masked().Addr(), mask)
	gateway := subnet.Addr().Next()
	driver := swarm.Driver{Name: "default"}
	return &state.Network{
		Network: swarm.Network{
			ID: id.New(),
			Spec: swarm.NetworkSpec{
				Annotations:         swarm.Annotations{Name: "ingress", Labels: map[string]string{}},
				DriverConfiguration: &swarm.Driver{Name: "overlay"},
				Ingress:             true,
				IPAMOptions:         &swarm.IPAMOptions{Driver: driver},
				Scope:               "swarm",
			},
			DriverState: swarm.Driver{Name: "overlay", Options: map[string]string{"com.docker.network.driver.overlay.vxlanid_list": "4096"}},
			IPAMOptions: &swarm.IPAMOptions{
				Driver:  driver,
				Configs: []swarm.IPAMConfig{{Subnet: subnet.String(), Gateway: gateway.String()}},
			},
		},
		VNI:   ingressVNI,
		Pools: []state.Pool{{Subnet: subnet, Gateway: gateway}},
	}
}

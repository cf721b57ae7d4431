package api

import (
	"math"

	"github.com/docker/docker/api/types/swarm"
)

func validateEndpoint(spec *swarm.ServiceSpec) error {
	e := spec.EndpointSpec
	if e == nil {
		return nil
	}
	type published struct {
		protocol swarm.PortConfigProtocol
		port     uint32
	}
	seen := map[published]bool{}
	for i, p := range e.Ports {
		if err := validatePort(i, p); err != nil {
			return err
		}
		if e.Mode == swarm.ResolutionModeDNSRR && p.PublishMode == swarm.PortConfigPublishModeIngress {
			return rpcInvalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
		}
		key := published{p.Protocol, p.PublishedPort}
		if p.PublishedPort != 0 && seen[key] {
			return rpcInvalid("EndpointSpec: duplicate published ports provided")
		}
		seen[key] = true
	}
	for i, p := range e.Ports {
		if p.PublishMode == swarm.PortConfigPublishModeIngress {
			return unsupported(portField(i)+".PublishMode ingress", "publish with mode=host: the routing mesh comes with overlay networks")
		}
	}
	return nil
}

func portField(i int) string { return "EndpointSpec.Ports[" + itoa(i) + "]" }

func validatePort(i int, p swarm.PortConfig) error {
	switch p.Protocol {
	case swarm.PortConfigProtocolTCP, swarm.PortConfigProtocolUDP, swarm.PortConfigProtocolSCTP:
	default:
		return invalid("invalid %s.Protocol: %q, allowed are tcp, udp and sctp", portField(i), p.Protocol)
	}
	switch p.PublishMode {
	case swarm.PortConfigPublishModeHost, swarm.PortConfigPublishModeIngress:
	default:
		return invalid("invalid %s.PublishMode: %q, allowed are host and ingress", portField(i), p.PublishMode)
	}
	if p.TargetPort == 0 || p.TargetPort > math.MaxUint16 {
		return invalid("invalid %s.TargetPort: %d, allowed are 1 to 65535", portField(i), p.TargetPort)
	}
	if p.PublishedPort > math.MaxUint16 {
		return invalid("invalid %s.PublishedPort: %d, allowed are 0 (any) to 65535", portField(i), p.PublishedPort)
	}
	return nil
}

// validateNetworks lets through the networks that every engine has.
func validateNetworks(spec *swarm.ServiceSpec) error {
	const instead = "leave it out and tasks use the default bridge of their node, or attach to one of bridge, host and none alone"
	if len(spec.Networks) > 0 { //nolint:staticcheck // deprecated, and refused
		return unsupported("Networks", instead)
	}
	networks := spec.TaskTemplate.Networks
	if len(networks) == 0 {
		return nil
	}
	n := networks[0]
	switch {
	case len(networks) > 1:
		return unsupported("TaskTemplate.Networks", instead)
	case n.Target == "":
		return invalid("invalid TaskTemplate.Networks[0].Target: it is empty")
	case n.Target != "bridge" && n.Target != "host" && n.Target != "none":
		return unsupported("TaskTemplate.Networks[0].Target "+n.Target, instead)
	case len(n.Aliases) > 0:
		return unsupported("TaskTemplate.Networks[0].Aliases", "network "+n.Target+" has no names, leave it out")
	case len(n.DriverOpts) > 0:
		return unsupported("TaskTemplate.Networks[0].DriverOpts", "network "+n.Target+" has no options, leave it out")
	case n.Target != "bridge" && spec.EndpointSpec != nil && len(spec.EndpointSpec.Ports) > 0:
		return invalid("EndpointSpec.Ports: tasks on network %s cannot publish ports", n.Target)
	}
	return nil
}

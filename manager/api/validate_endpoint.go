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
		if p.PublishMode == swarm.PortConfigPublishModeIngress && p.Protocol == swarm.PortConfigProtocolSCTP {
			return unsupported(portField(i)+".Protocol sctp", "publish it with mode=host, or use tcp or udp")
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

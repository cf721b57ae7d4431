package format

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"
)

// PrettyNode prints a node as `node inspect --pretty` does.
func PrettyNode(w io.Writer, n swarm.Node) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("ID:\t\t\t%s", n.ID)
	if n.Spec.Name != "" {
		p("Name:\t\t\t%s", n.Spec.Name)
	}
	if len(n.Spec.Labels) > 0 {
		p("Labels:")
		labels(p, " - ", n.Spec.Labels)
	}
	p("Hostname:              \t%s", n.Description.Hostname)
	p("Joined at:             \t%s", Title(n.CreatedAt.String()))
	p("Status:\n State:\t\t\t%s", Title(string(n.Status.State)))
	if n.Status.Message != "" {
		p(" Message:              \t%s", Title(n.Status.Message))
	}
	p(" Availability:         \t%s", Title(string(n.Spec.Availability)))
	if n.Status.Addr != "" {
		p(" Address:\t\t%s", n.Status.Addr)
	}
	if m := n.ManagerStatus; m != nil {
		leader := "No"
		if m.Leader {
			leader = "Yes"
		}
		p("Manager Status:\n Address:\t\t%s\n Raft Status:\t\t%s\n Leader:\t\t%s", m.Addr, Title(string(m.Reachability)), leader)
	}
	prettyDescription(p, n.Description)
}

func prettyDescription(p func(string, ...any), d swarm.NodeDescription) {
	p("Platform:\n Operating System:\t%s\n Architecture:\t\t%s", d.Platform.OS, d.Platform.Architecture)
	memory := ""
	if d.Resources.MemoryBytes != 0 {
		memory = units.BytesSize(float64(d.Resources.MemoryBytes))
	}
	p("Resources:\n CPUs:\t\t\t%d\n Memory:\t\t%s", d.Resources.NanoCPUs/1e9, memory)
	if len(d.Engine.Plugins) > 0 {
		byType := map[string][]string{}
		for _, plugin := range d.Engine.Plugins {
			byType[plugin.Type] = append(byType[plugin.Type], plugin.Name)
		}
		p("Plugins:")
		for _, t := range slices.Sorted(maps.Keys(byType)) {
			p(" %s:\t\t%s", t, strings.Join(byType[t], ", "))
		}
	}
	p("Engine Version:\t\t%s", d.Engine.EngineVersion)
	if len(d.Engine.Labels) > 0 {
		p("Engine Labels:")
		labels(p, " - ", d.Engine.Labels)
	}
	if d.TLSInfo.TrustRoot != "" {
		p("TLS Info:\n TrustRoot:\n%s\n Issuer Subject:\t%s\n Issuer Public Key:\t%s", d.TLSInfo.TrustRoot,
			base64.StdEncoding.EncodeToString(d.TLSInfo.CertIssuerSubject), base64.StdEncoding.EncodeToString(d.TLSInfo.CertIssuerPublicKey))
	}
}

func labels(p func(string, ...any), indent string, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] == "" {
			p("%s%s", indent, k)
			continue
		}
		p("%s%s=%s", indent, k, m[k])
	}
}

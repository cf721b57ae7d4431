package ca

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/pki"
	"shoal/raftstore/state/statetest"
)

func TestIssueClient(t *testing.T) {
	cluster, err := NewCluster(Founding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Store: statetest.New(cluster)})
	if err != nil {
		t.Fatal(err)
	}
	_, csrPEM, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.IssueClient(t.Context(), ClientRequest{Name: "alice@example.org", CSR: csrPEM})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ParseCert(got.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := pki.IdentityOf(cert)
	if want := (pki.Identity{NodeID: "alice@example.org", Role: pki.RoleClient, ClusterID: cluster.ID}); err != nil || identity != want {
		t.Errorf("identity %+v, %v, want %+v", identity, err, want)
	}
	if string(got.RootCert) != string(cluster.RootCert) {
		t.Error("the root certificate is another one")
	}
	for name, request := range map[string]ClientRequest{
		"Name": {Name: "", CSR: csrPEM}, "Name ": {Name: "a b", CSR: csrPEM}, "Name  ": {Name: strings.Repeat("a", 65), CSR: csrPEM},
		"CSR": {Name: "bob"}, "CSR ": {Name: "bob", CSR: []byte("x")},
	} {
		if _, err := c.IssueClient(t.Context(), request); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%+v: %v, want a refusal that names %s", request, err, name)
		}
	}
}

func TestNewClusterRefusesPoolsThatHoldNothing(t *testing.T) {
	for name, f := range map[string]Founding{
		"SubnetSize 30":                       {SubnetSize: 30},
		"not an IPv4 network":                 {DefaultAddrPool: []string{"fd00::/8"}},
		"not an IPv4 network ":                {DefaultAddrPool: []string{"10.0.0.0"}},
		"overlaps with":                       {DefaultAddrPool: []string{"10.0.0.0/8", "10.1.0.0/16"}},
		"10.253.0.0/16 lies in 10.252.0.0/14": {DefaultAddrPool: []string{"10.253.0.0/16"}},
		"\"10.9.0.1/16\" is not an IPv4":      {MeshPool: "10.9.0.1/16"},
		"\"fd00::/48\" is not an IPv4":        {MeshPool: "fd00::/48"},
		"\"mesh\" is not an IPv4":             {MeshPool: "mesh"},
		"/8 to /22":                           {MeshPool: "10.9.0.0/23"},
		"want unicast addresses":              {MeshPool: "224.0.0.0/8"},
		"smaller than":                        {DefaultAddrPool: []string{"10.0.0.0/8", "10.1.2.0/25"}, SubnetSize: 24},
		"DataPathPort 80":                     {DataPathPort: 80},
	} {
		if _, err := NewCluster(f, time.Now()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%+v: %v, want a refusal that says %q", f, err, name)
		}
	}
}

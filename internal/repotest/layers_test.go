package repotest

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// layers ranks every package: an import points to a lower rank, or to a
// package below the importing one. ARCHITECTURE.md draws the same picture.
func layers() map[string]int {
	return map[string]int{
		".":   90, // the process
		"cli": 80, "cli/compose": 75, "cli/format": 74, "internal/node": 70,
		"manager": 60, "worker": 60, // composition roots
		"manager/api": 50, "manager/ca": 50, // doors
		"manager/orchestrator": 40, "manager/allocator": 40, "manager/scheduler": 40, // loops
		"manager/dispatcher": 40, "manager/reaper": 40,
		"worker/session": 40, "worker/executor": 40, "worker/network": 40,
		"raftstore": 30, "gossip": 30, "overlay": 30, "worker/engine": 30, "worker/file": 30, // the outside world
		"raftstore/state": 20, "worker/assignment": 20, // the domain
		"internal/pki": 11, // a leaf that uses leaves
	}
}

const leaf = 10

// rank finds the layer of a package; one below a ranked package, such as
// manager/orchestrator/restart, is just under it.
func rank(pkg string) (int, bool) {
	for p, under := pkg, 0; p != "."; p, under = path.Dir(p), under+1 {
		if r, ok := layers()[p]; ok {
			return r - under, true
		}
	}
	if strings.HasPrefix(pkg, "internal/") {
		return leaf, true
	}
	return layers()["."], pkg == "."
}

// free packages may import everything, and only tests and they import them.
func free(pkg string) bool {
	return strings.HasSuffix(pkg, "test") || within(pkg, "integration") || within(pkg, "examples")
}

func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// ours is the directory of a package of this module.
func ours(imported string) (string, bool) {
	if imported == "shoal" {
		return ".", true
	}
	return strings.CutPrefix(imported, "shoal/")
}

func TestImportsPointDown(t *testing.T) {
	for _, f := range goFiles(t) {
		if free(f.pkg) || f.test { // a test may put both ends of a line together
			continue
		}
		from, known := rank(f.pkg)
		if !known {
			t.Errorf("%s: package %s has no layer; give it one in layers() and in ARCHITECTURE.md", f.path, f.pkg)
			continue
		}
		for _, imported := range f.imports(t) {
			to, ok := ours(imported)
			if !ok || f.pkg == to || within(to, f.pkg) {
				continue
			}
			if free(to) {
				t.Errorf("%s imports %s, which is for tests only", f.path, to)
				continue
			}
			if r, _ := rank(to); r >= from {
				t.Errorf("%s (layer %d) imports %s (layer %d): imports point down, never sideways; loops meet in the store", f.path, from, to, r)
			}
		}
	}
}

// ban is an import that a part of the tree must not have.
type ban struct {
	in     string // directory, with everything below it
	what   string // import path, with everything below it
	but    []string
	reason string
}

func bans() []ban {
	pure := "the domain decides the same on every node, so it has no clock, chance, I/O or log"
	return []ban{
		{"worker", "shoal/manager", nil, "a worker runs where no manager does"},
		{"worker", "shoal/raftstore", nil, "a worker knows assignments, not the cluster's state"},
		{"manager", "shoal/worker", []string{"shoal/worker/assignment"}, "manager and worker share the wire types and nothing else"},
		{"raftstore/state", "os", nil, pure},
		{"raftstore/state", "net", []string{"net/netip"}, pure},
		{"raftstore/state", "log/slog", nil, pure},
		{"raftstore/state", "math/rand", nil, pure},
		{"raftstore/state", "crypto/rand", nil, pure},
		{".", "log", []string{"log/slog"}, "there is one logger: log/slog"},
		{".", "shoal/integration", []string{"shoal/integration"}, "nothing imports integration"},
		{".", "github.com/pkg/errors", nil, "fmt.Errorf with %w, and errdefs kinds"},
		{".", "github.com/sirupsen/logrus", nil, "there is one logger: log/slog"},
		{".", "github.com/stretchr/testify", nil, "one style of assertions: plain Go and go-cmp"},
		{".", "golang.org/x/exp", nil, "the standard library has it by now"},
		{".", "unsafe", nil, "nothing here is worth it"},
	}
}

func under(imported, dir string) bool { return imported == dir || strings.HasPrefix(imported, dir+"/") }

func TestNobodyImportsWhatTheyMustNotKnow(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, imported := range f.imports(t) {
			for _, b := range bans() {
				if f.test && b.in != "." {
					continue // a test may read files, or put both ends of a line together
				}
				if (b.in != "." && !within(f.pkg, b.in)) || !under(imported, b.what) {
					continue
				}
				if b.what == "shoal/integration" && within(f.pkg, "integration") {
					continue
				}
				if !slices.ContainsFunc(b.but, func(but string) bool { return b.in != "." && under(imported, but) || imported == but }) {
					t.Errorf("%s imports %s: %s", f.path, imported, b.reason)
				}
			}
		}
	}
}

// homes says which packages may use a foreign dependency: one each, so that
// replacing it is work in one place. Those that are not listed are data or
// small enough to be anywhere.
func homes() map[string][]string {
	return map[string][]string{
		"github.com/hashicorp/raft":           {"raftstore"},
		"github.com/hashicorp/raft-boltdb":    {"raftstore"},
		"github.com/hashicorp/go-hclog":       {"raftstore", "gossip"},
		"go.etcd.io/bbolt":                    {"raftstore"},
		"github.com/google/btree":             {"raftstore/state"},
		"github.com/hashicorp/memberlist":     {"gossip"},
		"github.com/docker/docker/client":     {"worker/engine", "cli"},
		"github.com/docker/docker/pkg":        {"worker/engine", "cli", "manager/api", "internal/node"},
		"github.com/docker/cli":               {"cli"},
		"github.com/moby/term":                {"cli"},
		"github.com/urfave/cli":               {"cli"},
		"github.com/compose-spec/compose-go":  {"cli/compose"},
		"github.com/vishvananda/netlink":      {"overlay"},
		"github.com/vishvananda/netns":        {"overlay"},
		"github.com/google/nftables":          {"overlay"},
		"github.com/miekg/dns":                {"overlay"},
		"golang.zx2c4.com/wireguard":          {"overlay"},
		"github.com/coreos/go-systemd":        {"cli", "internal/node"},
		"github.com/rogpeppe/go-internal":     {"cli"},
		"github.com/hashicorp/go-metrics":     {"raftstore", "gossip", "internal/node"},
		"github.com/docker/docker/api/server": {},
	}
}

func TestEachForeignDependencyHasOneHome(t *testing.T) {
	for _, f := range goFiles(t) {
		if within(f.pkg, "integration") || f.test {
			continue
		}
		for _, imported := range f.imports(t) {
			for dependency, packages := range homes() {
				if !under(imported, dependency) {
					continue
				}
				if !slices.ContainsFunc(packages, func(p string) bool { return within(f.pkg, p) }) {
					t.Errorf("%s imports %s, whose home is %q", f.path, imported, packages)
				}
			}
		}
	}
}

func TestDomainKnowsNoDockerClientOrStore(t *testing.T) {
	for _, f := range goFiles(t) {
		if r, _ := rank(f.pkg); r >= 20 || f.test || free(f.pkg) {
			continue
		}
		for _, imported := range f.imports(t) {
			if under(imported, "github.com/docker/docker") && !under(imported, "github.com/docker/docker/api/types") {
				t.Errorf("%s imports %s: a leaf may use Docker's types and nothing else of it", f.path, imported)
			}
		}
	}
}

package node

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func testNode(t *testing.T) *Node {
	t.Helper()
	cfg, err := Config{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &Node{cfg: cfg, log: cfg.Log, joined: make(chan *member, 1)}
}

// furnish puts in place what a membership leaves on disk, without its record.
func furnish(t *testing.T, c Config) []string {
	t.Helper()
	files := []string{c.dataKey(), filepath.Join(c.certDir(), "node.key"), filepath.Join(c.raftDir(), "raft.db")}
	for _, path := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestResumeDestroysNothingWhenTheRecordIsUnreadable(t *testing.T) {
	for name, text := range map[string]*string{"missing": nil, "damaged": new("{"), "empty": new(""), "without fields": new(`{"version":1}`)} {
		t.Run(name, func(t *testing.T) {
			n := testNode(t)
			files := furnish(t, n.cfg)
			if text != nil {
				if err := os.WriteFile(n.cfg.record(), []byte(*text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := n.resume()
			if err == nil || !strings.Contains(err.Error(), n.cfg.record()) || !strings.Contains(err.Error(), "restore it from a backup") {
				t.Errorf("resume: %v, want the file and the way out", err)
			}
			for _, path := range files {
				if data, err := os.ReadFile(path); string(data) != "precious" {
					t.Errorf("%s: %q, %v", path, data, err)
				}
			}
		})
	}
}

func TestResumeRemovesWhatAnInterruptedJoinLeft(t *testing.T) {
	n := testNode(t)
	if err := n.cfg.begin(); err != nil {
		t.Fatal(err)
	}
	furnish(t, n.cfg)
	if err := n.resume(); err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob(filepath.Join(n.cfg.StateDir, "*")); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if m, _ := n.current(); m != nil {
		t.Error("the node is in a cluster")
	}
}

func TestMissingDataKeyIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.key")
	if _, err := loadDataKey(path); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("a new key took the place of the missing one")
	}
}

func TestTakenPortsAreNamedBeforeAnythingIsWritten(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	cases := map[string]struct {
		listen string
		gossip int
		want   string
	}{
		"cluster port":   {tcp.Addr().String(), 1, "--listen-addr"},
		"gossip, by tcp": {"127.0.0.1:0", tcp.Addr().(*net.TCPAddr).Port, "--gossip-port"},
		"gossip, by udp": {"127.0.0.1:0", udp.LocalAddr().(*net.UDPAddr).Port, "--gossip-port"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := testNode(t)
			n.cfg.GossipPort = c.gossip
			err := n.tryListen(addresses{listen: c.listen})
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want that it is in use and %s", err, c.want)
			}
		})
	}
}

func TestLastingFailureIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode(t)
		var text strings.Builder
		n.log = slog.New(slog.NewTextHandler(&text, nil))
		m := newMember(n, &record{NodeID: "n1"}, nil) // it has no data key
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		n.keepRunning(ctx, m)
		if c := strings.Count(text.String(), "trying again"); c != 1 {
			t.Errorf("logged %d times:\n%s", c, &text)
		}
		if _, err := n.current(); err == nil {
			t.Error("docker info would not say why the node does not run")
		}
	})
}

func TestManagerWithoutItsLogDoesNotRun(t *testing.T) {
	n := testNode(t)
	m := newMember(n, &record{NodeID: "n1", HasLog: true}, nil)
	log := filepath.Join(n.cfg.raftDir(), "raft.db")
	if err := m.checkLog(); err == nil || !strings.Contains(err.Error(), log) || !strings.Contains(err.Error(), "node rm --force n1") {
		t.Errorf("no log: %v, want the file and the way out", err)
	}
	if err := os.MkdirAll(n.cfg.raftDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]bool{"": false, "something": true} {
		if err := os.WriteFile(log, []byte(size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.checkLog(); (err == nil) != want {
			t.Errorf("log of %d bytes: %v", len(size), err)
		}
	}
	close(m.ready)
	if err := m.forgetLog(); err != nil {
		t.Fatal(err)
	}
	if r, err := os.ReadFile(n.cfg.record()); err != nil || strings.Contains(string(r), "hasLog") {
		t.Errorf("after a demotion the record says %s, %v", r, err)
	}
	if err := m.checkLog(); err != nil {
		t.Errorf("a node that is promoted again has no log to lose: %v", err)
	}
	m.noteLog()
	if !m.record.Load().HasLog {
		t.Error("the new log is not noted")
	}
}

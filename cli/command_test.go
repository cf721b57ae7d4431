package cli

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/goleak"
)

// cluster is three nodes and a service.
func cluster(t *testing.T) *fakeServer {
	t.Helper()
	f := newFakeServer(t)
	f.addNode("node2xxxxxxxxxxxxxxxxxxxxx", "host2", nil)
	f.addNode("node10xxxxxxxxxxxxxxxxxxxx", "host10", nil)
	f.addService("service1xxxxxxxxxxxxxxxxx", "web", 2)
	return f
}

// Command lines, what they print and what they send.
func TestCommands(t *testing.T) {
	tests := []struct{ line, stdout, sent string }{
		{"node ls -q", "node1xxxxxxxxxxxxxxxxxxxxx\nnode2xxxxxxxxxxxxxxxxxxxxx\nnode10xxxxxxxxxxxxxxxxxxxx\n", ""},
		{"node ls --format {{.Hostname}}{{if.Self}}*{{end}} -f role=worker", "host1*\nhost2\nhost10\n", ""},
		{"node promote host2 host10", "Node host2 promoted to a manager in the swarm.\nNode host10 promoted to a manager in the swarm.\n", "POST /nodes/node2xxxxxxxxxxxxxxxxxxxxx/update POST /nodes/node10xxxxxxxxxxxxxxxxxxxx/update"},
		{"node promote host1", "Node node1xxxxxxxxxxxxxxxxxxxxx is already a manager.\n", ""},
		{"node demote host1", "Manager host1 demoted in the swarm.\n", "POST /nodes/node1xxxxxxxxxxxxxxxxxxxxx/update"},
		{"node demote host2", "Node node2xxxxxxxxxxxxxxxxxxxxx is already a worker.\n", ""},
		{"node drain self", "self\n", "POST /nodes/node1xxxxxxxxxxxxxxxxxxxxx/update"},
		{"node update host2 --label-add zone=a", "host2\n", "POST /nodes/node2xxxxxxxxxxxxxxxxxxxxx/update"},
		{"node rm -f host2", "host2\n", "DELETE /nodes/host2"},
		{"node inspect self --format {{.ID}}", "node1xxxxxxxxxxxxxxxxxxxxx\n", ""},
		{"node ps", "ID        NAME      IMAGE     NODE      DESIRED STATE   CURRENT STATE   ERROR     PORTS\n", ""},
		{"service ls -q", "service1xxxx\n", ""},
		{"service ls --format json", `{"ID":"service1xxxx","Image":"nginx:1","Mode":"replicated","Name":"web","Ports":"","Replicas":"2/2"}` + "\n", ""},
		{"service inspect web --format {{.ID}}", "service1xxxxxxxxxxxxxxxxx\n", ""},
		{"service rm web", "web\n", "DELETE /services/web"},
		{"service scale -d web=3", "web scaled to 3\n", "POST /services/service1xxxxxxxxxxxxxxxxx/update"},
		{"service update -d --rollback web", "web\n", "POST /services/service1xxxxxxxxxxxxxxxxx/update"},
		{"service history -q web", "3\n2\n1\n", ""},
		{"service diff web", "service web: revision 2 to 3\n- TaskTemplate.ContainerSpec.Image: nginx:2\n+ TaskTemplate.ContainerSpec.Image: nginx:3\n", ""},
		{"service diff web 1", "service web: revision 1 to 3\n- TaskTemplate.ContainerSpec.Image: nginx:1\n+ TaskTemplate.ContainerSpec.Image: nginx:3\n", ""},
		{"service diff web 2 1", "service web: revision 2 to 1\n- TaskTemplate.ContainerSpec.Image: nginx:2\n+ TaskTemplate.ContainerSpec.Image: nginx:1\n", ""},
		{"service rollback -d web", "web\n", "POST /shoal/v1/services/web/rollback"},
		{"service rollback -q --to 1 web", "web\n", "POST /shoal/v1/services/web/rollback"},
		{"service pause web", "web\n", "POST /shoal/v1/services/web/pause"},
		{"service resume -q web", "web\n", "POST /shoal/v1/services/web/resume"},
		{"service abort -d web", "web\n", "POST /shoal/v1/services/web/abort"},
		{"service create -dq --no-resolve-image nginx", "newserviceidxxxxxxxxxxxxx\n", "POST /services/create"},
		{"join-token -q manager", "SHMTKN-1-1" + tokenTail + "\n", ""},
		{"join-token -q --rotate worker", "SHMTKN-1-2" + tokenTail + "\n", "POST /swarm/update"},
		{"join --token SHMTKN-1-1" + tokenTail + " 192.0.2.1", "This node joined a swarm as a manager.\n", "POST /swarm/join"},
		{"-v", "shoal version test\n", ""},
		{"--version service ls", "shoal version test\n", ""},
		{"leave -f", "Node left the swarm.\n", "POST /swarm/leave"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			f := cluster(t)
			stdout, stderr, code := f.run(t, strings.Fields(tt.line)...)
			if code != 0 || stdout != tt.stdout {
				t.Errorf("exit %d, stderr %q, stdout:\n%s\nwant:\n%s", code, stderr, stdout, tt.stdout)
			}
			if got := strings.Join(f.writes(), " "); got != tt.sent {
				t.Errorf("sent %q, want %q", got, tt.sent)
			}
		})
	}
}

func TestNodeUpdateKeepsTheRest(t *testing.T) {
	f := cluster(t)
	f.nodes["node2xxxxxxxxxxxxxxxxxxxxx"].Spec.Labels = map[string]string{"a": "1", "b": "2"}
	if _, stderr, code := f.run(t, "node", "update", "--label-rm", "a", "--availability", "pause", "host2"); code != 0 {
		t.Fatal(stderr)
	}
	got := f.nodes["node2xxxxxxxxxxxxxxxxxxxxx"].Spec
	if got.Availability != "pause" || got.Role != swarm.NodeRoleWorker || len(got.Labels) != 1 || got.Labels["b"] != "2" {
		t.Errorf("spec: %+v", got)
	}
}

func TestInitSendsWhatWasGiven(t *testing.T) {
	f := newFakeServer(t)
	line := "init --advertise-addr 192.0.2.1 --availability drain --task-history-limit 2 --cert-expiry 48h --default-addr-pool 10.1.2.3/16 --default-addr-pool-mask-length 26 --data-path-port 5000 --mesh-pool 172.16.9.0/16 --autolock"
	if _, stderr, code := f.run(t, strings.Fields(line)...); code != 0 {
		t.Fatal(stderr)
	}
	var got initRequest
	f.body(t, "POST /swarm/init", &got)
	if got.AdvertiseAddr != "192.0.2.1" || got.ListenAddr != "" || got.Availability != "drain" || *got.Spec.Orchestration.TaskHistoryRetentionLimit != 2 ||
		got.Spec.CAConfig.NodeCertExpiry != 48*time.Hour || got.DefaultAddrPool[0] != "10.1.0.0/16" || got.SubnetSize != 26 || got.DataPathPort != 5000 || got.MeshPool != "172.16.0.0/16" || !got.AutoLockManagers {
		t.Errorf("request: %+v", got)
	}
}

func TestInitHintsAtTheAddress(t *testing.T) {
	f := newFakeServer(t)
	f.fail["POST /swarm/init"] = "could not choose an IP address to advertise"
	_, stderr, code := f.run(t, "init")
	if want := "Error response from daemon: could not choose an IP address to advertise - specify one with --advertise-addr\n"; code != 1 || stderr != want {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestPartialFailureIsFailure(t *testing.T) {
	f := cluster(t)
	stdout, stderr, code := f.run(t, "service", "rm", "nosuch", "web")
	if code != 1 || stdout != "web\n" || !strings.Contains(stderr, "service nosuch not found") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	stdout, stderr, code = cluster(t).run(t, "service", "inspect", "web", "nosuch", "--format", "{{.Spec.Name}}")
	if code != 1 || stdout != "web\n" || stderr != "Error: no such service: nosuch\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestInterruptedCommandsExit130(t *testing.T) {
	f := cluster(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, stderr, code := f.runContext(ctx, t, "service", "ls"); code != codeInterrupted || stderr != "" {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

// A registry that hangs costs the timeout and no more.
func TestPinGivesUp(t *testing.T) {
	f := newFakeServer(t)
	f.registry = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	began := time.Now()
	_, stderr, code := f.run(t, "service", "create", "-d", "nginx")
	if took := time.Since(began); code != 0 || took > resolveTimeout+3*time.Second || !strings.Contains(stderr, "could not be accessed on a registry") {
		t.Errorf("exit %d after %s, stderr %q", code, took, stderr)
	}
}

func TestComplete(t *testing.T) {
	tests := []struct {
		words string // "|" between words; the last is unfinished
		want  string
	}{
		{"", "init join leave join-token update network node service secret config why rebalance logs exec attach cp top stats port-forward doctor preflight certificate daemon version completion"},
		{"service|c", "create"},
		{"service|create|--re", "--read-only --rebalance --replicas --replicas-max-per-node --reserve-cpu --reserve-memory --restart-condition --restart-delay --restart-max-attempts --restart-window"},
		{"service|create|--mode|", "replicated global replicated-job global-job"},
		{"service|create|--update-order=st", "--update-order=start-first --update-order=stop-first"},
		{"service|create|nginx|--re", ""},
		{"service|create|--|--re", ""},
		{"service|update|", "web"},
		{"service|update|--env-add|A=1|w", "web"},
		{"service|update|-dq|w", "web"},
		{"service|update|web|", ""},
		{"service|scale|w", "web="},
		{"service|rm|web|", "web"},
		{"node|ps|host", "host1 host10 host2"},
		{"join-token|", "worker manager"},
		{"completion|", "bash zsh fish"},
		{"nosuch|", ""},
		{"leave|", ""},
		{"leave|--", "--force --help"},
	}
	for _, tt := range tests {
		t.Run(tt.words, func(t *testing.T) {
			f := cluster(t)
			stdout, stderr, code := f.run(t, append([]string{completeCommand}, strings.Split(tt.words, "|")...)...)
			if got := strings.Join(strings.Fields(stdout), " "); got != tt.want || code != 0 || stderr != "" {
				t.Errorf("exit %d, stderr %q\n got %s\nwant %s", code, stderr, got, tt.want)
			}
			if w := f.writes(); len(w) > 0 {
				t.Errorf("completion sent %v", w)
			}
		})
	}
}

func TestCompletionNeedsNoDaemon(t *testing.T) {
	f := newFakeServer(t)
	f.host = "unix:///does/not/exist"
	if stdout, stderr, code := f.run(t, completeCommand, "service", "update", ""); stdout+stderr != "" || code != 0 {
		t.Errorf("exit %d: %q %q", code, stdout, stderr)
	}
}

// Every command says what it does, and every flag too.
func TestHelpIsComplete(t *testing.T) {
	var walk func(c *command)
	walk = func(c *command) {
		if c.short == "" || len(c.commands) == 0 && c.run == nil {
			t.Errorf("%s says nothing or does nothing", c.path())
		}
		seen := map[string]bool{}
		for _, f := range c.flags.list {
			if f.usage == "" || seen[f.name] || f.short != "" && seen[f.short] {
				t.Errorf("%s --%s: no usage, or twice", c.path(), f.name)
			}
			seen[f.name], seen[f.short] = true, f.short != ""
		}
		var b strings.Builder
		writeHelp(&b, c)
		if !strings.HasPrefix(b.String(), "Usage:  "+c.path()) {
			t.Errorf("%s: %s", c.path(), b.String())
		}
		if example := strings.Contains(b.String(), "\nExamples:\n  "); example != (len(c.commands) == 0) && !c.hidden {
			t.Errorf("%s: an example: %v", c.path(), example)
		}
		for _, sub := range c.commands {
			walk(sub)
		}
	}
	walk(testTree())
}

func TestUnitQuotesItsArguments(t *testing.T) {
	d := daemonFlags{stateDir: "/var/lib/a b%c", socket: "/run/s.sock", engine: "unix:///e.sock", gossipPort: 7946}
	got := unit("/usr/bin/shoal", d)
	want := `ExecStart=/usr/bin/shoal daemon --state-dir "/var/lib/a b%%c" --socket /run/s.sock --engine unix:///e.sock --gossip-port 7946` + "\n"
	if !strings.Contains(got, want) {
		t.Errorf("unit:\n%s\nwants %s", got, want)
	}
}

func TestHostNeedsAllTLSFiles(t *testing.T) {
	file := t.TempDir() + "/pem"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	if _, err := (host{addr: "tcp://h:2377", ca: file, cert: file, key: file}).resolve(none); err != nil {
		t.Error(err)
	}
	if _, err := (host{addr: "tcp://h:2377", ca: file, cert: file}).resolve(none); err == nil {
		t.Error("a missing key is accepted")
	}
	if h, err := (host{}).resolve(none); err != nil || h.socket() != "/run/shoal/shoal.sock" {
		t.Errorf("default: %+v, %v", h, err)
	}
}

// A rival's write in between is no reason to fail.
func TestUpdatesAreTriedAgain(t *testing.T) {
	for _, line := range []string{"service scale -d web=3", "service update -d --env-add B=2 web", "node drain host2", "join-token --rotate worker"} {
		f := cluster(t)
		f.stale = updateTries - 1
		if _, stderr, code := f.run(t, strings.Fields(line)...); code != 0 {
			t.Errorf("%s: exit %d, stderr %q", line, code, stderr)
		}
		f.stale = updateTries
		if _, stderr, code := f.run(t, strings.Fields(line)...); code != 1 || !strings.Contains(stderr, "update out of sequence") {
			t.Errorf("%s, for ever: exit %d, stderr %q", line, code, stderr)
		}
	}
}

// Whatever is given to a flag, it takes or refuses it.
func FuzzFlagValues(f *testing.F) {
	for _, s := range []string{"", "a=b", "type=bind,src=/a,dst=/b", "80-82:80-82/tcp", "node.role==worker", "1.5", "10s", "'a b' c", "nofile=1:2", "\x00", "=", ",", "\"", "192.0.2.1:2377"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		var walk func(c *command)
		walk = func(c *command) {
			for _, fl := range c.flags.list {
				_ = fl.Set(s)
				_ = fl.String()
			}
			for _, sub := range c.commands {
				walk(sub)
			}
		}
		walk(testTree())
	})
}

// A command ends its connections: whoever calls Run many times, as tests and
// completion do, is left with nothing.
func TestRunLeavesNothingRunning(t *testing.T) {
	f := cluster(t)
	before := goleak.IgnoreCurrent()
	for _, line := range []string{"node ls", "service scale web=2", "service create --wait-timeout 1ms nginx", "why web"} {
		f.run(t, strings.Fields(line)...)
	}
	goleak.VerifyNone(t, before)
}

//go:build docker

package compat

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"shoal/integration/lab"
)

// hosts is how many each lab has.
const hosts = 3

// patience is how long a step may take to come to its condition.
const patience = 30 * time.Second

// side is one of the two clusters.
type side struct {
	name    string
	sockets []string
	env     map[string]string
	normal  *normal
}

// answer is what a side answers to a step.
type answer struct {
	out, err string
	code     int
	failure  error // there was no answer, or never the one waited for
}

// clients are the docker commands that are compared, by what their versions
// begin with.
func clients(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{"28.": os.Getenv("DOCKER_BIN"), "20.10.": "/usr/bin/docker"}
	if found["28."] == "" {
		found["28."] = "docker"
	}
	for version, path := range found {
		out, err := exec.CommandContext(t.Context(), path, "--version").Output()
		if err != nil || !strings.HasPrefix(string(out), "Docker version "+version) {
			t.Fatalf("%s should be the docker command %s, and says %q, %v: make docker gets both", path, version, out, err)
		}
	}
	return found
}

// TestDockerCommandsAnswerAsWithSwarm runs the tables with both clients, each
// on labs of its own, at the same time: most of it is waiting.
func TestDockerCommandsAnswerAsWithSwarm(t *testing.T) {
	steps, known := readTable(t, "testdata/[0-9]*.txt"), readDifferences(t, "testdata/differences.txt")
	start := time.Now()
	given := map[string]*answers{}
	var all sync.WaitGroup
	for version, path := range clients(t) {
		swarm, shoal := sides(t)
		a := &answers{swarm: swarm, shoal: shoal}
		given[version] = a
		swarm.env["DOCKER"], shoal.env["DOCKER"] = path, path
		all.Go(func() { a.ofSwarm = swarm.runAll(t.Context(), steps) })
		all.Go(func() { a.ofShoal = shoal.runAll(t.Context(), steps) })
	}
	all.Wait()
	for version, a := range given {
		a.check(t, "docker "+version, steps, known)
	}
	t.Logf("in %.1f s", time.Since(start).Seconds())
	checkSeen(t, known)
}

// answers are what both sides have answered to the same steps.
type answers struct {
	swarm, shoal     *side
	ofSwarm, ofShoal []answer
}

func (a *answers) check(t *testing.T, client string, steps []step, known []*difference) {
	t.Helper()
	failed := 0
	for i, s := range steps {
		if fault := compare(s, known, a.swarm.normal, a.shoal.normal, a.ofSwarm[i], a.ofShoal[i]); fault != "" {
			failed++
			t.Errorf("%s: %s: %s\n%s", client, s.where, s.line, fault)
		}
	}
	t.Logf("%s: %d of %d answers differ", client, failed, len(steps))
}

// checkSeen wants every known difference to have been there.
func checkSeen(t *testing.T, known []*difference) {
	t.Helper()
	for _, d := range known {
		if !d.seen {
			t.Errorf("no answer differs any more at %s (%s)", d.path, d.reason)
		}
	}
}

// compare tells how the answers to a step are not as they should be.
func compare(s step, known []*difference, swarm, shoal *normal, a, b answer) string {
	if err := errors.Join(a.failure, b.failure); err != nil {
		return fmt.Sprintf("%v\nswarm: %+v\nshoal: %+v", err, a, b)
	}
	diff := differ(s, known, swarm, shoal, a, b)
	switch {
	case s.differs == "" && diff != "":
		return "(-swarm +shoal):\n" + diff
	case s.differs != "" && diff == "":
		return "does not differ any more: " + s.differs
	case s.shoal != nil && !s.shoal.MatchString(b.out+b.err):
		return fmt.Sprintf("shoal says %q, want %s", b.out+b.err, s.shoal)
	}
	return ""
}

// differ compares two answers as the step asks.
func differ(s step, known []*difference, swarm, shoal *normal, a, b answer) string {
	var diff string
	if a.code != b.code {
		diff = fmt.Sprintf("-exit %d\n+exit %d\n", a.code, b.code)
	}
	if s.ignore {
		return diff
	}
	if s.more && contains(shoal.message(s, b), swarm.message(s, a)) {
		return diff
	}
	want, isJSON := swarm.leaves(s, a.out)
	got, both := shoal.leaves(s, b.out)
	if isJSON && both {
		diff += compareLeaves(want, got, known)
	} else {
		diff += cmp.Diff(swarm.lines(s, a.out), shoal.lines(s, b.out))
	}
	return diff + cmp.Diff(swarm.lines(s, a.err), shoal.lines(s, b.err))
}

// contains says whether a message is there in a longer one, which may go on
// where the shorter one ends.
func contains(long, short string) bool {
	return long != short && strings.Contains(long, strings.TrimRight(short, "."))
}

// message is the error that an answer tells.
func (n *normal) message(s step, a answer) string {
	if leaves, ok := n.leaves(s, a.out); ok {
		return leaves[".message"]
	}
	return n.lines(s, a.out+a.err)
}

// runAll carries out all steps, one after the other: they build on each other.
func (d *side) runAll(ctx context.Context, steps []step) []answer {
	var answers []answer
	for _, s := range steps {
		answers = append(answers, d.run(ctx, s))
	}
	return answers
}

// run carries out a step, again and again when it waits for a condition.
func (d *side) run(ctx context.Context, s step) (a answer) {
	once := d.command
	if s.program == "" {
		once = d.request
	}
	failure := lab.WaitFor(ctx, patience, d.name+" to answer", func() (string, bool) {
		a = once(ctx, s)
		return fmt.Sprint(a.out, a.err, a.failure), a.failure == nil && (s.until == nil || s.until.MatchString(a.out+a.err))
	})
	a.failure = failure
	if s.save != "" {
		d.env[s.save] = strings.TrimSpace(a.out)
	}
	return a
}

// command runs a program, through a shell for its quotes and variables.
func (d *side) command(ctx context.Context, s step) answer {
	program := s.program
	if program == "docker" {
		program = "$DOCKER"
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", program+" -H unix://"+d.sockets[s.host-1]+" "+s.line)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG=/nonexistent", "DOCKER_CLI_HINTS=false", "TZ=UTC")
	for name, value := range d.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return answer{failure: err}
	}
	return answer{out: out.String(), err: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// request makes an HTTP request; code is its status, out its body.
func (d *side) request(ctx context.Context, s step) answer {
	expand := func(name string) string { return d.env[name] }
	method, path, _ := strings.Cut(os.Expand(s.line, expand), " ")
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.sockets[s.host-1])
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, strings.NewReader(os.Expand(s.body, expand)))
	if err != nil {
		return answer{failure: err}
	}
	if s.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{failure: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	header := "Content-Type: " + resp.Header.Get("Content-Type") + "\nSwarm: " + resp.Header.Get("Swarm")
	return answer{out: string(body), err: header, code: resp.StatusCode, failure: err}
}

// sides builds both labs; neither has a cluster yet.
func sides(t *testing.T) (swarm, shoal *side) {
	t.Helper()
	dir := t.TempDir()
	web, bin := filepath.Join(dir, "web"), os.Getenv("SHOAL_BIN")
	var programs errgroup.Group
	programs.Go(func() error { return lab.Build(t.Context(), "shoal/examples/web", web) })
	if bin == "" {
		bin = filepath.Join(dir, "shoal")
		programs.Go(func() error { return lab.Build(t.Context(), "shoal", bin) })
	}
	if err := programs.Wait(); err != nil {
		t.Fatal(err)
	}
	a, b := build(t, bin, web), build(t, bin, web)
	var daemons errgroup.Group
	for _, h := range b.Hosts() {
		daemons.Go(func() error { return h.StartDaemon(t.Context()) })
	}
	if err := daemons.Wait(); err != nil {
		t.Fatal(err)
	}
	swarm, shoal = newSide("swarm", a, (*lab.Host).DockerSocket), newSide("shoal", b, (*lab.Host).ShoalSocket)
	swarm.addRegistry(t, a)
	shoal.addRegistry(t, b)
	return swarm, shoal
}

// addRegistry starts a registry with a password; REG is its address, LOGIN and
// WRONG are what docker login would leave of the right one and of another.
func (d *side) addRegistry(t *testing.T, l *lab.Lab) {
	t.Helper()
	const hash = "$2a$05$H5PDK1tqoV3KxsqIAfN.pOxJmt3JOMx3Gs/FSdfPMZlCSiFKWGW3S"
	reg, err := l.Host(1).StartRegistry(t.Context(), "ann", hash)
	if err != nil {
		t.Fatal(err)
	}
	d.env["REG"] = reg.Addr
	for name, password := range map[string]string{"LOGIN": "correct-horse-1", "WRONG": "wrong-guess-3"} {
		d.env[name] = t.TempDir()
		auth := base64.StdEncoding.EncodeToString([]byte("ann:" + password))
		config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, reg.Addr, auth)
		if err := os.WriteFile(filepath.Join(d.env[name], "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func build(t *testing.T, bin, web string) *lab.Lab {
	t.Helper()
	l := lab.ForTest(t, lab.Config{Hosts: hosts, Shoal: bin, EngineArgs: []string{"--node-generic-resource", "gpu=2"}})
	if err := l.LoadImage(t.Context(), lab.WebImage("web:1", web)); err != nil {
		t.Fatal(err)
	}
	return l
}

func newSide(name string, l *lab.Lab, socket func(*lab.Host) string) *side {
	d := &side{name: name, env: map[string]string{"BEGIN": strconv.FormatInt(time.Now().Unix(), 10)}}
	var known []string
	for i, h := range l.Hosts() {
		d.sockets = append(d.sockets, socket(h))
		d.env[fmt.Sprintf("ADDR%d", i+1)] = h.Addr
		known = append(known, h.Addr, fmt.Sprintf("ADDR%d", i+1))
	}
	d.normal = newNormal(append(known, l.Dir(), "LAB")...)
	return d
}

//go:build docker

package integration

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// The user of the registry, two passwords and their hashes.
const (
	regUser          = "ann"
	regPassword      = "correct-horse-1"
	regHash          = "$2a$05$H5PDK1tqoV3KxsqIAfN.pOxJmt3JOMx3Gs/FSdfPMZlCSiFKWGW3S"
	regNewPassword   = "battery-staple-2"
	regNewHash       = "$2a$05$cfgV4wayh6D/YwSPkz1uleYd/t8c2lKV1XZkSADQk7kS8jez5pksy"
	regWrongPassword = "wrong-guess-3"
)

// registrySite is a site with a registry on its first host.
type registrySite struct {
	*site
	reg   *lab.Registry
	repo  string // of the image on the registry, without a tag
	home  string // where docker login keeps what it knows: no host's disk
	shoal string
}

// TestPrivateRegistry deploys from Debian's docker-registry with TLS and a
// password: what the nodes get, what they do not, and what is said of it.
func TestPrivateRegistry(t *testing.T) {
	s := newRegistrySite(t)
	s.login(t, regPassword)
	s.push(t, "v1", "1")
	for _, part := range []struct {
		name string
		run  func(*testing.T, *registrySite)
	}{
		{"all nodes pull one digest", oneDigest},
		{"a tag that moves changes nothing", movedTag},
		{"an update takes what the tag means now", updatedTag},
		{"new credentials restart nothing", rotatedPassword},
		{"a wrong password is told", wrongPassword},
		{"no credentials are told", noCredentials},
		{"the docker command deploys too", dockerDeploys},
		{"a daemon that restarts goes on pulling", restartedPull},
		{"no password is anywhere in the clear", nothingInTheClear},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) && part.name == "all nodes pull one digest" {
			return
		}
	}
}

func newRegistrySite(t *testing.T) *registrySite {
	t.Helper()
	s := &registrySite{site: formSite(t, 3, 1), home: t.TempDir(), shoal: program(t, "SHOAL_BIN", "shoal")}
	reg, err := s.Host(1).StartRegistry(t.Context(), regUser, regHash)
	ok(t, err)
	s.reg, s.repo = reg, reg.Addr+"/team/web"
	return s
}

// as runs a command on the first host with what docker login has left.
func (s *registrySite) as(t *testing.T, stdin string, argv ...string) (string, error) {
	t.Helper()
	out, err := s.Host(1).RunInput(t.Context(), stdin, append([]string{"env", "DOCKER_CONFIG=" + s.home}, argv...)...)
	return strings.TrimSpace(out), err
}

func (s *registrySite) dockerAs(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.as(t, "", append([]string{"docker", "-H", "unix://" + s.Host(1).ShoalSocket()}, args...)...)
	ok(t, err)
	return out
}

func (s *registrySite) shoalAs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return s.as(t, "", append([]string{s.shoal, "-H", "unix://" + s.Host(1).ShoalSocket()}, args...)...)
}

func (s *registrySite) login(t *testing.T, password string) {
	t.Helper()
	_, err := s.as(t, password, "docker", "-H", "unix://"+s.Host(1).ShoalSocket(), "login", "-u", regUser, "--password-stdin", s.reg.Addr)
	ok(t, err)
}

// push puts the sample image under a tag, with a VERSION of its own.
func (s *registrySite) push(t *testing.T, tag, version string) {
	t.Helper()
	i := lab.WebImage("local:"+version, program(t, "WEB_BIN", "shoal/examples/web"))
	i.Env = []string{"VERSION=" + version}
	tarball, err := i.Tar()
	ok(t, err)
	ok(t, s.Host(1).LoadImage(t.Context(), tarball))
	s.dockerAs(t, "tag", i.Ref, s.repo+":"+tag)
	s.dockerAs(t, "push", "-q", s.repo+":"+tag)
	s.dockerAs(t, "rmi", s.repo+":"+tag) // the first host pulls like the others
}

// image is what a service runs, and that of each of its tasks that should run.
func (s *registrySite) image(t *testing.T, service string) (pinned string, tasks []string) {
	t.Helper()
	got, _, err := s.site.shoal[s.Host(1)].ServiceInspectWithRaw(t.Context(), service, swarm.ServiceInspectOptions{})
	ok(t, err)
	list, err := tasksOf(t, s.site.shoal[s.Host(1)], service)
	ok(t, err)
	for _, task := range list {
		if task.DesiredState == swarm.TaskStateRunning {
			tasks = append(tasks, task.Spec.ContainerSpec.Image)
		}
	}
	slices.Sort(tasks)
	return got.Spec.TaskTemplate.ContainerSpec.Image, slices.Compact(tasks)
}

// onOneDigest checks that a service is pinned and that all its tasks run that.
func (s *registrySite) onOneDigest(t *testing.T, service, tag string) (pinned string) {
	t.Helper()
	pinned, tasks := s.image(t, service)
	if !strings.HasPrefix(pinned, s.repo+":"+tag+"@sha256:") || !slices.Equal(tasks, []string{pinned}) {
		t.Errorf("service %s has image %s, its tasks %v", service, pinned, tasks)
	}
	return pinned
}

func oneDigest(t *testing.T, s *registrySite) {
	out, err := s.shoalAs(t, "service", "create", "--with-registry-auth", "--name", "web", "--replicas", "3", "--replicas-max-per-node", "2",
		"--update-monitor", "100ms", s.repo+":v1")
	ok(t, err)
	s.converged(t, s.Host(1), "web", 3)
	if strings.Contains(out, "could not be accessed") {
		t.Errorf("create said: %s", out)
	}
	s.onOneDigest(t, "web", "v1")
	for _, h := range s.Hosts() {
		if ids, err := s.running(t, "web", h); err != nil || len(ids) != 1 {
			t.Errorf("%s runs %v, %v", h.Name, ids, err)
		}
	}
}

func movedTag(t *testing.T, s *registrySite) {
	before, _ := s.image(t, "web")
	s.push(t, "v1", "2")
	_, err := s.shoalAs(t, "service", "scale", "web=5")
	ok(t, err)
	s.converged(t, s.Host(1), "web", 5)
	if after := s.onOneDigest(t, "web", "v1"); after != before {
		t.Errorf("image was %s, is %s", before, after)
	}
}

func updatedTag(t *testing.T, s *registrySite) {
	before, _ := s.image(t, "web")
	_, err := s.shoalAs(t, "service", "update", "--with-registry-auth", "--update-parallelism", "0", "--image", s.repo+":v1", "web")
	ok(t, err)
	s.converged(t, s.Host(1), "web", 5)
	if after := s.onOneDigest(t, "web", "v1"); after == before {
		t.Errorf("image is still %s", after)
	}
}

func rotatedPassword(t *testing.T, s *registrySite) {
	before, err := s.running(t, "web", s.Hosts()...)
	ok(t, err)
	ok(t, s.reg.SetPassword(regUser, regNewHash))
	s.login(t, regNewPassword)
	_, err = s.shoalAs(t, "service", "update", "--with-registry-auth", "web")
	ok(t, err)
	pass(t, time.Second)
	if after, err := s.running(t, "web", s.Hosts()...); err != nil || !slices.Equal(before, after) {
		t.Errorf("containers were %v, are %v, %v", before, after, err)
	}
	// They serve tasks that are yet to come.
	for _, h := range s.Hosts() {
		ids, err := s.running(t, "web", h)
		ok(t, err)
		for _, id := range ids {
			ok(t, s.engines[h].ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true}))
		}
		_, _ = h.Docker(t.Context(), "image", "prune", "-af")
	}
	s.converged(t, s.Host(1), "web", 5)
}

// refused is what a command says that must end with exit code 1.
func (s *registrySite) refused(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.shoalAs(t, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%s: %v, want exit code 1", strings.Join(args, " "), err)
	}
	return out + err.Error()
}

func wrongPassword(t *testing.T, s *registrySite) {
	home := s.home
	s.home = t.TempDir()
	defer func() { s.home = home }()
	login := base64.StdEncoding.EncodeToString([]byte(regUser + ":" + regWrongPassword))
	ok(t, os.WriteFile(filepath.Join(s.home, "config.json"), []byte(`{"auths":{"`+s.reg.Addr+`":{"auth":"`+login+`"}}}`), 0o600))
	s.pushSecret(t)
	said := s.refused(t, "service", "create", "--with-registry-auth", "--restart-condition", "none", "--name", "wrong", s.repo+":secret")
	for _, want := range []string{
		"could not be accessed on a registry to record",
		"registry " + s.reg.Addr + " refuses the credentials that came with the service",
		"docker login " + s.reg.Addr, "docker service update --with-registry-auth wrong",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	// The right ones, and nothing else, bring it up.
	s.home = home
	_, err := s.shoalAs(t, "service", "update", "--with-registry-auth", "wrong")
	ok(t, err)
	s.converged(t, s.Host(1), "wrong", 1)
	_, err = s.shoalAs(t, "service", "rm", "wrong")
	ok(t, err)
}

// pushSecret puts an image on the registry that no node has.
func (s *registrySite) pushSecret(t *testing.T) {
	t.Helper()
	home := s.home
	s.home = t.TempDir()
	defer func() { s.home = home }()
	s.login(t, regNewPassword)
	s.push(t, "secret", "3")
}

func noCredentials(t *testing.T, s *registrySite) {
	for _, h := range s.Hosts() {
		waitFor(t, "the image to go from "+h.Name, func() (string, bool) {
			out, _ := h.Docker(t.Context(), "image", "prune", "-af")
			left, err := h.Docker(t.Context(), "images", "-q", s.repo+":secret")
			return out + left, err == nil && strings.TrimSpace(left) == ""
		})
	}
	said := s.refused(t, "service", "create", "--restart-condition", "none", "--name", "bare", s.repo+":secret")
	if want := "no credentials for registry " + s.reg.Addr + " came with the service: docker login " + s.reg.Addr + ", then docker service update --with-registry-auth bare"; !strings.Contains(said, want) {
		t.Errorf("it does not say %q:\n%s", want, said)
	}
	if why, err := s.shoalAs(t, "why", "bare"); err != nil || !strings.Contains(why, "--with-registry-auth bare") {
		t.Errorf("why: %v\n%s", err, why)
	}
	_, err := s.shoalAs(t, "service", "rm", "bare")
	ok(t, err)
}

func dockerDeploys(t *testing.T, s *registrySite) {
	s.dockerAs(t, "service", "create", "-q", "--with-registry-auth", "--name", "stock", "--mode", "global", s.repo+":v1")
	s.converged(t, s.Host(1), "stock", 3)
	s.onOneDigest(t, "stock", "v1")
	tasks := strings.Fields(s.dockerAs(t, "service", "ps", "-q", "stock"))
	shown := s.dockerAs(t, "service", "inspect", "stock") + s.dockerAs(t, append([]string{"inspect"}, tasks...)...)
	for _, word := range inTheClear() {
		if strings.Contains(shown, word) {
			t.Errorf("inspect shows %q", word)
		}
	}
	s.dockerAs(t, "service", "rm", "stock")
}

func restartedPull(t *testing.T, s *registrySite) {
	h3 := s.Host(3)
	s.push(t, "slow", "4")
	pinned := s.digestOf(t, "slow")
	ok(t, s.reg.Pause())
	_, err := s.shoalAs(t, "service", "create", "-d", "--with-registry-auth", "--no-resolve-image", "--name", "slow", "--constraint", "node.hostname==h3", pinned)
	ok(t, err)
	waitFor(t, "a task that pulls", func() (string, bool) {
		tasks, err := tasksOf(t, s.site.shoal[s.Host(1)], "slow")
		return fmt.Sprint(taskIDs(tasks), err), err == nil && len(tasks) == 1 && tasks[0].Status.State == swarm.TaskStatePreparing
	})
	ok(t, h3.Daemon().Kill9())
	restartDaemon(t, h3)
	ok(t, s.reg.Resume())
	s.converged(t, s.Host(1), "slow", 1)
}

// digestOf is what the registry has under a tag, as a name.
func (s *registrySite) digestOf(t *testing.T, tag string) string {
	t.Helper()
	found, err := s.as(t, "", "curl", "-sI", "-u", regUser+":"+regNewPassword, "--cacert", filepath.Join(s.Host(1).Dir, "etc", "certs.d", s.reg.Addr, "ca.crt"),
		"-H", "Accept: application/vnd.docker.distribution.manifest.v2+json", "https://"+s.reg.Addr+"/v2/team/web/manifests/"+tag)
	ok(t, err)
	for line := range strings.Lines(found) {
		if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "Docker-Content-Digest") {
			return s.repo + ":" + tag + "@" + strings.TrimSpace(value)
		}
	}
	t.Fatalf("no digest of %s: %s", tag, found)
	return ""
}

// inTheClear are the forms in which the passwords of this test would be seen.
func inTheClear() (words []string) {
	for _, password := range []string{regPassword, regNewPassword, regWrongPassword} {
		words = append(words, password)
		for skip := range 3 { // wherever it stands in what is encoded
			encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat(" ", skip) + password))
			words = append(words, encoded[4:len(encoded)-4])
		}
	}
	return words
}

// nothingInTheClear looks at all that the hosts have on their disks.
func nothingInTheClear(t *testing.T, s *registrySite) {
	words, files := inTheClear(), 0
	known, err := os.ReadFile(filepath.Join(s.home, "config.json")) // where docker login has it
	if sees := func(word string) bool { return bytes.Contains(known, []byte(word)) }; err != nil || !slices.ContainsFunc(words, sees) {
		t.Fatalf("a password that is there is not found: %v", err)
	}
	for _, h := range s.Hosts() {
		ok(t, filepath.WalkDir(h.Dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return skipIfGone(err)
			case d.IsDir() && (d.Name() == "overlay2" || d.Name() == "blobs"): // what is in images
				return fs.SkipDir
			case !d.Type().IsRegular():
				return nil
			}
			content, err := os.ReadFile(path)
			files++
			for _, word := range words {
				if bytes.Contains(content, []byte(word)) {
					t.Errorf("%s has %q", path, word)
				}
			}
			return skipIfGone(err)
		}))
	}
	if files < 30 {
		t.Errorf("%d files looked at: where are they?", files)
	}
}

func skipIfGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

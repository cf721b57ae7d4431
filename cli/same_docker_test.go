//go:build docker

package cli

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

// The docker command line of this machine and shoal post the same for the same
// flags. It talks to the fake server only.
func TestPostsWhatTheDockerCommandPosts(t *testing.T) {
	for _, line := range []string{
		"service create -d nginx",
		"service create -d --name web --replicas 3 -p 80:80 -p 81-82:91-92 --env A=1 -e B -l x=y nginx:1 sh -c date",
		"service create -d --mode global --constraint node.role==worker --constraint node.id==b --placement-pref spread=node.labels.z --restart-delay 2s nginx",
		"service create -d --mode replicated-job --replicas 3 nginx",
		"service create -d --mode global-job nginx",
		"service create -d --update-delay 1s --rollback-order start-first --limit-cpu 1.5 --reserve-memory 1g --limit-pids 3 nginx",
		"service create -d --mount type=volume,src=a,dst=/b,volume-driver=x,volume-opt=o=1 --mount type=tmpfs,dst=/t,tmpfs-size=1m --dns 1.1.1.1 --host a:1.2.3.4 nginx",
		"service create -d --health-cmd x --health-retries 3 --no-resolve-image --cap-add NET_ADMIN --cap-drop ALL --ulimit nofile=1:2 --sysctl net.a=1 nginx",
		"service create -d --log-driver json-file --log-opt max-size=1m --stop-grace-period 3s --generic-resource gpu=2 --init --tty --read-only --user a --workdir /x --hostname h --group g --stop-signal TERM --entrypoint a_b nginx",
		"service update -d --replicas 3 --env-add B=2 --label-add x=y web",
		"service update -d --env-rm A --publish-add 80:80 --constraint-add node.role==worker --mount-add dst=/x --image redis web",
		"service update -d --limit-cpu 1 --restart-condition none --update-parallelism 2 --cap-add NET_ADMIN --host-add a:1.2.3.4 --dns-add 1.1.1.1 --force --args a_b web",
		"service update -d --rollback web",
		"service update web -d --no-healthcheck",
		"service scale -d web=5",
	} {
		t.Run(line, func(t *testing.T) {
			docker, shoal := both(t, line)
			if diff := cmp.Diff(docker, shoal); diff != "" {
				t.Errorf("spec (-docker +shoal):\n%s", diff)
			}
		})
	}
}

func both(t *testing.T, line string) (docker, shoal swarm.ServiceSpec) {
	t.Helper()
	f := cluster(t)
	if out, err := dockerCommand(t, f, line).CombinedOutput(); err != nil {
		t.Fatalf("docker: %v\n%s", err, out)
	}
	docker = posted(t, f)
	f = cluster(t)
	if _, stderr, code := f.run(t, strings.Fields(line)...); code != 0 {
		t.Fatalf("shoal: exit %d\n%s", code, stderr)
	}
	return docker, posted(t, f)
}

func dockerCommand(t *testing.T, f *fakeServer, line string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "docker", slices.Concat([]string{"-H", f.host}, strings.Fields(line))...)
}

// posted is the spec of the only write, with those lists sorted that docker
// makes from maps.
func posted(t *testing.T, f *fakeServer) swarm.ServiceSpec {
	t.Helper()
	writes := f.writes()
	if len(writes) != 1 {
		t.Fatalf("writes: %v", writes)
	}
	var spec swarm.ServiceSpec
	if err := json.Unmarshal(f.bodies[writes[0]], &spec); err != nil {
		t.Fatal(err)
	}
	slices.Sort(spec.TaskTemplate.ContainerSpec.Env)
	if spec.EndpointSpec != nil {
		slices.SortFunc(spec.EndpointSpec.Ports, func(a, b swarm.PortConfig) int { return int(a.TargetPort) - int(b.TargetPort) })
	}
	return spec
}

func TestPrintsWhatTheDockerCommandPrints(t *testing.T) {
	f := cluster(t)
	for _, line := range []string{
		"node ls", "node ls -q", "service ls", "service ls -q", "service inspect --pretty web", "node inspect --pretty host1",
		"service ps web", "service inspect web", "node inspect host1", "service ps nosuch", "service rm nosuch",
		"service inspect --format {{.Spec.Name}} web nosuch", "node ls --format {{.Hostname}}", "node promote host1", "join-token worker",
		"secret ls", "secret ls --format {{.Name}}={{.Labels}}", "secret inspect --pretty key", "secret inspect key", "secret inspect nosuch", "secret rm key nosuch",
		"config ls", "config ls -q", "config inspect --pretty conf", "config inspect conf", "config rm conf",
	} {
		t.Run(line, func(t *testing.T) {
			asked := line
			if strings.HasPrefix(line, "join-token") {
				asked = "swarm " + line
			}
			out, _ := dockerCommand(t, f, asked).CombinedOutput() // refusals are compared too
			want := strings.ReplaceAll(string(out), "docker swarm join", "shoal join")
			stdout, stderr, _ := f.run(t, strings.Fields(line)...)
			if diff := cmp.Diff(want, stdout+stderr); diff != "" {
				t.Errorf("printed (-docker +shoal):\n%s", diff)
			}
		})
	}
}

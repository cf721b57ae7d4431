package cli

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

func TestNamesBecomeIDs(t *testing.T) {
	f := newFakeServer(t)
	spec := created(t, f, "--network", "name=front,alias=www", "--network", "back", "--secret", "key", "--config", "source=conf,target=/etc/c,mode=0400",
		"--credential-spec", "config://conf", "nginx")
	wantNets := []swarm.NetworkAttachmentConfig{{Target: "id-of-back"}, {Target: "id-of-front", Aliases: []string{"www"}}}
	if diff := cmp.Diff(wantNets, spec.TaskTemplate.Networks); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
	c := spec.TaskTemplate.ContainerSpec
	wantSecrets := []*swarm.SecretReference{{SecretID: "secretid", SecretName: "key", File: &swarm.SecretReferenceFileTarget{Name: "key", UID: "0", GID: "0", Mode: 0o444}}}
	if diff := cmp.Diff(wantSecrets, c.Secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	wantConfigs := []*swarm.ConfigReference{
		{ConfigID: "configid", ConfigName: "conf", File: &swarm.ConfigReferenceFileTarget{Name: "/etc/c", UID: "0", GID: "0", Mode: 0o400}},
		{ConfigID: "configid", ConfigName: "conf", Runtime: &swarm.ConfigReferenceRuntimeTarget{}},
	}
	if diff := cmp.Diff(wantConfigs, c.Configs); diff != "" {
		t.Errorf("configs (-want +got):\n%s", diff)
	}
	if c.Privileges == nil || c.Privileges.CredentialSpec.Config != "configid" {
		t.Errorf("credential spec: %+v", c.Privileges)
	}
}

func TestUpdateReplacesByTarget(t *testing.T) {
	f := newFakeServer(t)
	c := f.addService("service1xxxxxxxxxxxxxxxxx", "web", 2).Spec.TaskTemplate.ContainerSpec
	c.Secrets = []*swarm.SecretReference{
		{SecretID: "old", SecretName: "oldkey", File: &swarm.SecretReferenceFileTarget{Name: "key"}},
		{SecretID: "gone", SecretName: "gone", File: &swarm.SecretReferenceFileTarget{Name: "gone"}},
	}
	c.Configs = []*swarm.ConfigReference{{ConfigID: "old", ConfigName: "old", File: &swarm.ConfigReferenceFileTarget{Name: "/etc/c"}}}
	f.services["service1xxxxxxxxxxxxxxxxx"].Spec.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "id-of-a"}, {Target: "id-of-z"}}
	spec := updated(t, f, "--secret-add", "key", "--secret-rm", "gone", "--config-rm", "old", "--network-rm", "z", "--network-add", "b")
	got := spec.TaskTemplate.ContainerSpec
	if len(got.Secrets) != 1 || got.Secrets[0].SecretID != "secretid" || len(got.Configs) != 0 {
		t.Errorf("secrets %+v, configs %+v", got.Secrets, got.Configs)
	}
	if diff := cmp.Diff([]swarm.NetworkAttachmentConfig{{Target: "id-of-a"}, {Target: "id-of-b"}}, spec.TaskTemplate.Networks); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
	_, stderr, code := f.run(t, "service", "update", "-d", "--network-add", "a", "web")
	if code != 1 || stderr != "service is already attached to network a\n" {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"--network nosuch":                            "network nosuch not found: --network takes a network of the cluster\n",
		"--config nosuch":                             "config not found: nosuch\n",
		"--secret key --secret source=x,target=key":   "duplicate secret target for x not allowed\n",
		"--config conf --config source=x,target=conf": "duplicate config target for x not allowed\n",
	} {
		f := newFakeServer(t)
		args := append(append([]string{"service", "create"}, strings.Fields(line)...), "nginx")
		if _, stderr, code := f.run(t, args...); code != 1 || stderr != want || len(f.writes()) != 0 {
			t.Errorf("%s: exit %d, stderr %q, sent %v", line, code, stderr, f.writes())
		}
	}
}

// The user's credentials go along in the header that Docker uses.
func TestRegistryAuth(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	const auths = `{"auths":{"registry.example.com":{"auth":"bWU6c2VjcmV0"},"https://index.docker.io/v1/":{"auth":"aHViOnB3"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(auths), 0o600); err != nil {
		t.Fatal(err)
	}
	for image, user := range map[string]string{"registry.example.com/web:1": "me", "nginx": "hub", "other.example.com/x": ""} {
		var said strings.Builder
		s := newShell(Config{Stderr: &said})
		header, err := s.registryAuth(image)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.URLEncoding.DecodeString(header)
		if err != nil {
			t.Fatal(err)
		}
		var got registry.AuthConfig
		if err := json.Unmarshal(raw, &got); err != nil || got.Username != user {
			t.Errorf("%s: user %q, err %v; want %q", image, got.Username, err, user)
		}
		if warned := strings.Contains(said.String(), "there are no credentials for other.example.com"); warned != (user == "") {
			t.Errorf("%s: said %q", image, said.String())
		}
	}
}

func TestMergeCapabilities(t *testing.T) {
	tests := []struct {
		name                                            string
		haveAdd, haveDrop, add, drop, wantAdd, wantDrop []string
	}{
		{"add", nil, nil, []string{"net_admin"}, nil, []string{"CAP_NET_ADMIN"}, nil},
		{"adding a dropped one", nil, []string{"CAP_X"}, []string{"X"}, nil, nil, nil},
		{"dropping an added one", []string{"CAP_X"}, nil, nil, []string{"X"}, nil, nil},
		{"adding wins", nil, nil, []string{"X"}, []string{"X"}, []string{"CAP_X"}, nil},
		{"all swallows the rest", []string{"CAP_X"}, nil, []string{"ALL"}, nil, []string{"ALL"}, nil},
		{"reset", []string{"CAP_X"}, []string{"CAP_Y"}, []string{"RESET", "Z"}, []string{"RESET"}, []string{"CAP_Z"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			add, drop := mergeCapabilities(true, tt.haveAdd, tt.haveDrop, tt.add, tt.drop)
			if diff := cmp.Diff([][]string{tt.wantAdd, tt.wantDrop}, [][]string{add, drop}); diff != "" {
				t.Errorf("add and drop (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUpdateOfJobs(t *testing.T) {
	n := uint64(3)
	job := func() *fakeServer {
		f := newFakeServer(t)
		f.addService("service1xxxxxxxxxxxxxxxxx", "web", 2).Spec.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &n, TotalCompletions: &n}}
		return f
	}
	m := updated(t, job(), "--replicas", "9", "--max-concurrent", "2").Mode.ReplicatedJob
	if m == nil || *m.TotalCompletions != 9 || *m.MaxConcurrent != 2 {
		t.Errorf("job: %+v", m)
	}
	if _, stderr, code := job().run(t, "service", "update", "--update-delay", "1s", "web"); code != 1 || stderr != "update and rollback configuration is not supported for jobs\n" {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestPsOfSelf(t *testing.T) {
	f := cluster(t)
	if _, stderr, code := f.run(t, "service", "ps", "-f", "node=self", "web"); code != 0 {
		t.Fatal(stderr)
	}
	if got := f.query.Get("filters"); !strings.Contains(got, `"node":{"node1xxxxxxxxxxxxxxxxxxxxx":true}`) {
		t.Errorf("filters: %s", got)
	}
}

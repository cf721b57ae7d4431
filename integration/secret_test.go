package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// setSecret makes another version of a secret.
func setSecret(t testing.TB, m *machine, name, data string) {
	t.Helper()
	body, err := json.Marshal(map[string][]byte{"Data": []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://shoal/shoal/v1/secrets/"+name+"/set", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.api.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("set %s: %s", name, resp.Status)
	}
}

// secretsSeen are the contents of the files that the running containers of all
// machines have, sorted.
func (c *cluster) secretsSeen() (seen []string) {
	for _, m := range c.machines {
		for _, ctr := range m.running() {
			spec, _ := m.engine.Spec(ctr.ID)
			for _, mount := range spec.HostConfig.Mounts {
				content, err := os.ReadFile(mount.Source)
				seen = append(seen, fmt.Sprint(mount.Target, "=", string(content), " ", err))
			}
		}
	}
	slices.Sort(seen)
	return seen
}

// awaitSecrets waits until the containers see this and nothing else.
func (c *cluster) awaitSecrets(content string, n int) {
	c.t.Helper()
	want := slices.Repeat([]string{"/run/secrets/db=" + content + " <nil>"}, n)
	waitFor(c.t, fmt.Sprintf("%d containers to see %s", n, content), func() (string, bool) {
		seen := c.secretsSeen()
		return fmt.Sprint(seen), slices.Equal(seen, want)
	})
}

// filesHolding are the files of all machines, but for the tmpfs, that hold text.
func (c *cluster) filesHolding(text string) (found []string) {
	c.t.Helper()
	for _, m := range c.machines {
		err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path == filepath.Join(m.dir, "files"):
				return fs.SkipDir
			case !d.Type().IsRegular():
				return nil
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, []byte(text)) {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return found
}

// leaveAll takes all machines out of the cluster, so that nothing of theirs
// stays mounted.
func (c *cluster) leaveAll() {
	for _, m := range c.machines {
		if err := m.api.SwarmLeave(c.t.Context(), true); err != nil {
			c.t.Errorf("leave: %v", err)
		}
	}
}

func TestSecretsReachTasksAndNothingElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a tmpfs")
	}
	c := form(t, 3, 1)
	defer c.leaveAll()
	leader := c.leader(c.machines[0])
	via := c.machines[slices.IndexFunc(c.machines, func(m *machine) bool { return m != leader })]
	secret, err := via.api.SecretCreate(t.Context(), swarm.SecretSpec{Annotations: swarm.Annotations{Name: "db"}, Data: []byte("canary-one")})
	if err != nil {
		t.Fatal(err)
	}
	s := spec("web", 4)
	s.TaskTemplate.ContainerSpec.Secrets = []*swarm.SecretReference{{
		SecretID: secret.ID, SecretName: "db", File: &swarm.SecretReferenceFileTarget{Name: "db", UID: "0", GID: "0", Mode: 0o400},
	}}
	s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 2, Monitor: time.Second, FailureAction: swarm.UpdateFailureActionPause, Order: swarm.UpdateOrderStartFirst}
	create(t, via.api, s)
	c.converged(via, "web", 4)
	c.awaitSecrets("canary-one", 4)

	// A daemon that restarts changes nothing; a leader that dies neither.
	worker := c.machines[3]
	worker.stop()
	c.awaitSecrets("canary-one", 4)
	worker.start()
	c.awaitNodes(via, 3, 1)
	leader.stop()
	setSecret(t, via, "db", "canary-two")
	leader.start()
	c.awaitSecrets("canary-two", 4)
	c.converged(via, "web", 4)
	web, _, err := via.api.ServiceInspectWithRaw(t.Context(), "web", swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := via.api.ServiceUpdate(t.Context(), web.ID, web.Version, web.Spec, swarm.ServiceUpdateOptions{Rollback: "previous"}); err != nil {
		t.Fatal(err)
	}
	c.awaitSecrets("canary-one", 4)

	if err := via.api.SecretRemove(t.Context(), "db"); err == nil {
		t.Error("a secret in use was removed")
	}
	if err := via.api.ServiceRemove(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	c.awaitNoContainers()
	waitFor(t, "no files of tasks", func() (string, bool) {
		left, err := filepath.Glob(filepath.Join(c.dir, "*/files/*/*"))
		return fmt.Sprint(left, err), len(left) == 0
	})
	if err := via.api.SecretRemove(t.Context(), "db"); err != nil {
		t.Error(err)
	}
	if found := append(c.filesHolding("canary"), c.filesHolding("Y2FuYXJ5")...); len(found) > 0 { // in base64, too
		t.Errorf("the secret is in %v", found)
	}
}

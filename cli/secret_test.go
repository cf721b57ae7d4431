package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

// serveValues answers for secrets and configs: there is one of each, and what
// is set rolls the service "web".
func (f *fakeServer) serveValues(w http.ResponseWriter, r *http.Request, path []string) {
	secret := swarm.Secret{ID: "secretid", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "key", Labels: map[string]string{"b": "2", "a": "1"}}}}
	config := swarm.Config{ID: "configid", Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "conf"}, Data: []byte("x=1")}}
	secret.CreatedAt, secret.UpdatedAt = f.born.Add(-time.Hour*49), f.born.Add(-time.Minute*61)
	config.Meta = secret.Meta
	if len(path) == 1 {
		f.query = r.URL.Query()
		if path[0] == "secrets" {
			pinned := secret
			pinned.ID, pinned.Spec.Name = "oldid", "key@1"
			list := []swarm.Secret{secret}
			if strings.Contains(f.query.Get("filters"), "key@1") {
				list = append(list, pinned)
			}
			write(w, list)
			return
		}
		write(w, []swarm.Config{config})
		return
	}
	switch ref := path[1]; {
	case ref == "create":
		w.WriteHeader(http.StatusCreated)
		write(w, swarm.SecretCreateResponse{ID: "newid"})
	case ref == "nosuch":
		refuse(w, http.StatusNotFound, strings.TrimSuffix(path[0], "s")+" nosuch not found")
	case len(path) == 3 && path[2] == "set":
		write(w, map[string]any{"ID": "newid", "Version": 3, "New": ref != "same", "Rolled": []string{"web"}, "Kept": []string{"job"}})
	case len(path) == 3 && path[2] == "versions":
		write(w, []map[string]any{
			{"ID": "newid", "Version": 2, "CreatedAt": time.Now().Add(-time.Minute * 2), "Services": []string{"api", "web"}},
			{"ID": "oldid", "Version": 1, "CreatedAt": time.Now().Add(-time.Hour * 49), "Services": []string{}},
		})
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case path[0] == "secrets":
		write(w, secret)
	default:
		write(w, config)
	}
}

// runWith is run with something on standard input.
func (f *fakeServer) runWith(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	env := func(name string) string { return map[string]string{"SHOAL_HOST": f.host}[name] }
	code = Run(context.Background(), Config{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Version: "test", Getenv: env})
	return out.String(), errs.String(), code
}

func TestSecretsAndConfigsAreCreated(t *testing.T) {
	f := cluster(t)
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kind, source, stdin string }{{"secret", path, ""}, {"secret", "-", "hunter2"}, {"config", path, ""}, {"config", "-", "hunter2"}} {
		stdout, stderr, code := f.runWith(t, c.stdin, c.kind, "create", "-l", "a=b", "--label", "c", "--template-driver", "golang", "db", c.source)
		if code != 0 || stdout != "newid\n" || stderr != "" {
			t.Errorf("%s create: %d %q %q", c.kind, code, stdout, stderr)
		}
		var spec swarm.SecretSpec
		f.body(t, "POST /"+c.kind+"s/create", &spec)
		want := swarm.SecretSpec{
			Annotations: swarm.Annotations{Name: "db", Labels: map[string]string{"a": "b", "c": ""}}, Data: []byte("hunter2"), Templating: &swarm.Driver{Name: "golang"},
		}
		if diff := cmp.Diff(want, spec); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.kind, diff)
		}
	}
}

func TestASetRollsAndWaits(t *testing.T) {
	f := cluster(t)
	f.runAll(f.services["service1xxxxxxxxxxxxxxxxx"])
	stdout, stderr, code := f.runWith(t, "hunter3", "secret", "set", "db", "-")
	if code != 0 || !strings.HasPrefix(stdout, "secret db: version 3\nservice web is updated\n") || !strings.Contains(stdout, "converged") {
		t.Errorf("%d %q", code, stdout)
	}
	if want := "service job stays with an older version: it refers to that one, or is a job\n"; stderr != want {
		t.Errorf("says %q, want %q", stderr, want)
	}
	var body struct{ Data []byte }
	f.body(t, "POST /shoal/v1/secrets/db/set", &body)
	if string(body.Data) != "hunter3" {
		t.Errorf("sent %q", body.Data)
	}
	if stdout, _, code := f.runWith(t, "x", "config", "set", "-d", "same", "-"); code != 0 || stdout != "config same: version 3 has this content already\nservice web is updated\n" {
		t.Errorf("%d %q", code, stdout)
	}
}

func TestVersionsAreListed(t *testing.T) {
	f := cluster(t)
	stdout, stderr, code := f.run(t, "config", "versions", "conf")
	want := "VERSION   ID        CREATED         SERVICES\n2         newid     2 minutes ago   api, web\n1         oldid     2 days ago      \n"
	if code != 0 || stderr != "" || stdout != want {
		t.Errorf("%d %q\n%s", code, stderr, cmp.Diff(want, stdout))
	}
	if stdout, _, _ := f.run(t, "secret", "versions", "-q", "key"); stdout != "newid\noldid\n" {
		t.Errorf("ids: %q", stdout)
	}
}

func TestAPinnedVersionGoesWhereTheOthersGo(t *testing.T) {
	f := cluster(t)
	spec := created(t, f, "--secret", "key@1", "--secret", "source=key,target=now", "nginx")
	var got []string
	for _, ref := range spec.TaskTemplate.ContainerSpec.Secrets {
		got = append(got, ref.SecretID+" "+ref.SecretName+" "+ref.File.Name)
	}
	if want := []string{"oldid key@1 key", "secretid key now"}; !slices.Equal(got, want) {
		t.Errorf("references %q, want %q", got, want)
	}
}

func TestNothingOfASecretIsPrinted(t *testing.T) {
	f := cluster(t)
	for _, args := range [][]string{{"secret", "create", "db", "-"}, {"secret", "set", "-d", "db", "-"}, {"secret", "set", "nosuch", "-"}} {
		stdout, stderr, _ := f.runWith(t, "canary", args...)
		if strings.Contains(stdout+stderr, "canary") {
			t.Errorf("%v prints %q %q", args, stdout, stderr)
		}
	}
	if body, err := json.Marshal(f.requests); err != nil || strings.Contains(string(body), "canary") {
		t.Errorf("in a path: %s, %v", body, err)
	}
}

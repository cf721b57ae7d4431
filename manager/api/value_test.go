package api_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func secretSpec(name, data string) swarm.SecretSpec {
	return swarm.SecretSpec{Annotations: swarm.Annotations{Name: name}, Data: []byte(data)}
}

func configSpec(name, data string) swarm.ConfigSpec {
	return swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}, Data: []byte(data)}
}

// using is a service that gets a secret and a config.
func using(name string, secret *state.Secret, config *state.Config) swarm.ServiceSpec {
	spec := webSpec(name, 1)
	statetest.Uses(secret, config)(&spec)
	return spec
}

func TestGoldenJSONOfValues(t *testing.T) {
	h := newHarness(t, statetest.Secret("s1", "db", 1), statetest.Secret("s2", "db", 2), statetest.Config("c1", "nginx.conf", 0))
	for name, path := range map[string]string{
		"secret": "/secrets/db", "secret-version": "/secrets/s1", "secret-list": "/secrets", "secret-missing": "/secrets/nope",
		"config": "/configs/c1", "config-list": "/configs", "secret-versions": "/shoal/v1/secrets/db/versions",
	} {
		_, text := h.call("GET", path, nil)
		golden(t, name, text)
	}
}

func TestDockersClientManagesSecretsAndConfigs(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	spec := secretSpec("db", "hunter2")
	spec.Labels = map[string]string{"a": "b"}
	created, err := h.docker.SecretCreate(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	secret, raw, err := h.docker.SecretInspectWithRaw(ctx, "db")
	if err != nil || secret.ID != created.ID || secret.Spec.Data != nil || secret.Spec.Labels["a"] != "b" {
		t.Errorf("%+v, %v", secret, err)
	}
	if strings.Contains(string(raw), "Data") {
		t.Errorf("the answer has data: %s", raw)
	}
	next := secret.Spec
	next.Labels = map[string]string{"c": "d"}
	if err := h.docker.SecretUpdate(ctx, secret.ID, secret.Version, next); err != nil {
		t.Error(err)
	}
	if err := h.docker.SecretUpdate(ctx, secret.ID, secret.Version, next); err == nil || !strings.Contains(err.Error(), "update out of sequence") {
		t.Errorf("stale update: %v", err)
	}
	if got := h.store.View().SecretByName("db"); string(got.Spec.Data) != "hunter2" || got.Spec.Labels["c"] != "d" {
		t.Errorf("stored %+v", got)
	}
	if _, err := h.docker.ConfigCreate(ctx, configSpec("conf", "x=1")); err != nil {
		t.Fatal(err)
	}
	config, _, err := h.docker.ConfigInspectWithRaw(ctx, "conf")
	if err != nil || string(config.Spec.Data) != "x=1" || config.Spec.Labels == nil {
		t.Errorf("%+v, %v", config, err)
	}
	for _, err := range []error{h.docker.SecretRemove(ctx, "db"), h.docker.ConfigRemove(ctx, config.ID)} {
		if err != nil {
			t.Error(err)
		}
	}
	if list, err := h.docker.SecretList(ctx, swarm.SecretListOptions{}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestValuesAreFiltered(t *testing.T) {
	labelled := statetest.Secret("aa3", "web", 0)
	labelled.Spec.Labels["k"] = "v"
	h := newHarness(t, statetest.Secret("aa1", "db", 1), statetest.Secret("ab2", "db", 2), statetest.Secret("b1", "dbx", 0), labelled)
	for query, want := range map[string]string{
		"": "aa3=web ab2=db b1=dbx", "name=db": "ab2=db b1=dbx", "names=db": "ab2=db", "id=aa": "aa3=web", "id=b1": "b1=dbx",
		"label=k": "aa3=web", "label=k=x": "", "name=db&label=k": "", "name=db@1": "aa1=db@1", "name=db@2": "ab2=db@2", "names=db@1": "aa1=db@1", "name=db@9": "",
	} {
		args := filters.NewArgs()
		for _, pair := range strings.Split(query, "&") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				args.Add(k, v)
			}
		}
		list, err := h.docker.SecretList(t.Context(), swarm.SecretListOptions{Filters: args})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range list {
			got = append(got, s.ID+"="+s.Spec.Name)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %q, want %q", query, text, want)
		}
	}
}

func TestBadValuesAreRefused(t *testing.T) {
	secret, config := statetest.Secret("s1", "db", 0), statetest.Config("c1", "conf", 0)
	web, webRev := statetest.Service("web", 1, statetest.Uses(secret, config))
	two, twoRev := statetest.Service("two", 1, statetest.Uses(config))
	h := newHarness(t, secret, config, statetest.Secret("x1", "a1", 0), statetest.Secret("x2", "a2", 0), web, webRev, two, twoRev)
	before := h.hash()
	version := h.store.View().Secret("s1").Version.String()
	driver := swarm.SecretSpec{Annotations: swarm.Annotations{Name: "d"}, Driver: &swarm.Driver{Name: "vault"}}
	template := func(name, data string) swarm.SecretSpec {
		s := secretSpec("t", data)
		s.Templating = &swarm.Driver{Name: name}
		return s
	}
	const badName = "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]"
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		message            string
	}{
		{"no name", "POST", "/secrets/create", secretSpec("", "x"), 400, "rpc error: code = InvalidArgument desc = name must be provided"},
		{"bad end", "POST", "/secrets/create", secretSpec("db.", "x"), 400, badName},
		{"bad byte", "POST", "/configs/create", configSpec("a@b", "x"), 400, badName},
		{"long name", "POST", "/secrets/create", secretSpec(strings.Repeat("a", 65), "x"), 400, badName},
		{"empty", "POST", "/secrets/create", secretSpec("new", ""), 400, "secret data must be larger than 0 and less than 512000 bytes"},
		{"large", "POST", "/secrets/create", secretSpec("new", strings.Repeat("x", 512000)), 400, "secret data must be larger than 0 and less than 512000 bytes"},
		{"empty config", "POST", "/configs/create", configSpec("new", ""), 400, "config data must be larger than 0 and less than 1024000 bytes"},
		{"large config", "POST", "/configs/create", configSpec("new", strings.Repeat("x", 1024000)), 400, "config data must be larger than 0 and less than 1024000 bytes"},
		{"label without key", "POST", "/configs/create", `{"Name":"x","Data":"eA==","Labels":{"":"v"}}`, 400, "Spec.Labels: a label needs a key"},
		{"taken", "POST", "/secrets/create", secretSpec("db", "x"), 409, "rpc error: code = AlreadyExists desc = secret db already exists"},
		{"taken config", "POST", "/configs/create", configSpec("conf", "x"), 409, "rpc error: code = AlreadyExists desc = config conf already exists"},
		{"driver", "POST", "/secrets/create", driver, 501, "Spec.Driver: not supported"},
		{"nameless driver", "POST", "/secrets/create", `{"Name":"d","Driver":{}}`, 400, "secret driver must have a name"},
		{"driver of a config", "POST", "/configs/create", driver, 400, `unknown field "Driver"`},
		{"old API", "POST", "/v1.36/secrets/create", template("golang", "x"), 400, "secret templating is not supported on the specified API version: 1.36"},
		{"template driver", "POST", "/secrets/create", template("jinja", "x"), 400, `invalid Spec.Templating.Name "jinja"`},
		{"template", "POST", "/secrets/create", template("golang", "x\n{{.canary}"), 400, "invalid Spec.Data: it is no Go template: line 2"},

		{"missing", "GET", "/secrets/nope", nil, 404, "secret nope not found"},
		{"ambiguous", "GET", "/secrets/x", nil, 400, "secret x is ambiguous (2 matches found)"},
		{"no such version", "GET", "/secrets/db@2", nil, 404, "secret db@2 not found"},
		{"filter", "GET", `/secrets?filters={"driver":["x"]}`, nil, 400, "invalid filter 'driver'"},
		{"filter of configs", "GET", `/configs?filters={"names":["x"]}`, nil, 400, "invalid filter 'names'"},
		{"missing versions", "GET", "/shoal/v1/configs/nope/versions", nil, 404, "config nope not found"},

		{"update without version", "POST", "/secrets/db/update", secretSpec("db", ""), 400, "invalid secret version ''"},
		{"update of nothing", "POST", "/configs/nope/update?version=1", configSpec("nope", ""), 404, "config nope not found"},
		{"renaming", "POST", "/secrets/db/update?version=" + version, secretSpec("dc", ""), 400, "rpc error: code = InvalidArgument desc = only updates to Labels are allowed"},
		{"other data", "POST", "/secrets/db/update?version=" + version, secretSpec("db", "x"), 400, "only updates to Labels are allowed"},
		{"stale", "POST", "/secrets/db/update?version=999", secretSpec("db", ""), 500, "rpc error: code = Unknown desc = update out of sequence"},

		{"in use", "DELETE", "/secrets/db", nil, 400, "rpc error: code = InvalidArgument desc = secret 'db' is in use by the following service: web"},
		{"in use twice", "DELETE", "/configs/c1", nil, 400, "config 'conf' is in use by the following services: two, web"},
		{"removing nothing", "DELETE", "/configs/nope", nil, 404, "config nope not found"},

		{"set nothing", "POST", "/shoal/v1/secrets/db/set", map[string]any{}, 400, "secret data must be larger than 0"},
		{"set more", "POST", "/shoal/v1/secrets/db/set", map[string]any{"Data": []byte("x"), "Name": "y"}, 400, `unknown field "Name"`},
		{"set missing", "POST", "/shoal/v1/configs/nope/set", map[string]any{"Data": []byte("x")}, 404, "config nope not found"},
	} {
		h.refused(c.name, c.method, c.path, c.body, nil, c.status, c.message)
	}
	if h.hash() != before {
		t.Error("a refused request has changed the state")
	}
}

func TestReferencesAreChecked(t *testing.T) {
	secret, config := statetest.Secret("s1", "db", 0), statetest.Config("c1", "conf", 0)
	h := newHarness(t, secret, config)
	change := func(f func(c *swarm.ContainerSpec)) swarm.ServiceSpec {
		spec := using("web", secret, config)
		f(spec.TaskTemplate.ContainerSpec)
		return spec
	}
	before := h.hash()
	for _, c := range []struct {
		name    string
		spec    swarm.ServiceSpec
		status  int
		message string
	}{
		{"no id", change(func(c *swarm.ContainerSpec) { c.Secrets[0].SecretID = "" }), 400, "rpc error: code = InvalidArgument desc = malformed secret reference"},
		{"no target", change(func(c *swarm.ContainerSpec) { c.Secrets[0].File = nil }), 400, "malformed secret reference, no target provided"},
		{"no file name", change(func(c *swarm.ContainerSpec) { c.Secrets[0].File.Name = "" }), 400, "malformed file secret reference, invalid target file name provided"},
		{"no config name", change(func(c *swarm.ContainerSpec) { c.Configs[0].ConfigName = "" }), 400, "malformed config reference"},
		{"no config target", change(func(c *swarm.ContainerSpec) { c.Configs[0].File = nil }), 400, "either File or Runtime should be set"},
		{"no config file name", change(func(c *swarm.ContainerSpec) { c.Configs[0].File.Name = "" }), 400, "malformed file config reference, invalid target file name provided"},
		{"two config targets", change(func(c *swarm.ContainerSpec) { c.Configs[0].Runtime = &swarm.ConfigReferenceRuntimeTarget{} }), 400, "cannot specify both File and Runtime"},
		{"credential spec", change(func(c *swarm.ContainerSpec) {
			c.Configs[0].File, c.Configs[0].Runtime = nil, &swarm.ConfigReferenceRuntimeTarget{}
		}), 501, "ContainerSpec.Configs[0].Runtime: not supported"},
		{"same target", change(func(c *swarm.ContainerSpec) { c.Secrets = append(c.Secrets, c.Secrets[0]) }), 400, "secret references 'db' and 'db' have a conflicting target: 'db'"},
		{"same config target", change(func(c *swarm.ContainerSpec) { c.Configs = append(c.Configs, c.Configs[0]) }), 400, "config references 'conf' and 'conf' have a conflicting target: '/conf'"},
		{"target of both", change(func(c *swarm.ContainerSpec) { c.Configs[0].File.Name = "/run/secrets/db" }), 400, "Configs[0].File.Name: /run/secrets/db is taken by secret db"},
		{"target of a mount", change(func(c *swarm.ContainerSpec) {
			c.Mounts = []mount.Mount{{Type: mount.TypeTmpfs, Target: "/conf/"}}
		}), 400, "Configs[0].File.Name: /conf is taken by mount /conf/"},
		{"user", change(func(c *swarm.ContainerSpec) { c.Secrets[0].File.UID = "root" }), 400, `invalid Secrets[0].File.UID "root": a number is expected`},
		{"group", change(func(c *swarm.ContainerSpec) { c.Configs[0].File.GID = "-1" }), 400, `invalid Configs[0].File.GID "-1"`},
		{"mode", change(func(c *swarm.ContainerSpec) { c.Secrets[0].File.Mode = 0o4444 }), 400, "invalid Secrets[0].File.Mode 04444"},
		{"directory", change(func(c *swarm.ContainerSpec) { c.Configs[0].File.Name = "/etc/" }), 400, `invalid Configs[0].File.Name "/etc/"`},
		{"unknown", change(func(c *swarm.ContainerSpec) { c.Secrets[0].SecretID = "s2" }), 400, "rpc error: code = InvalidArgument desc = secret not found: db"},
		{"other name", change(func(c *swarm.ContainerSpec) { c.Secrets[0].SecretName = "dc" }), 400, "secret not found: dc"},
		{"no such version", change(func(c *swarm.ContainerSpec) { c.Secrets[0].SecretName = "db@2" }), 400, "secret not found: db@2"},
		{"unknown both", change(func(c *swarm.ContainerSpec) {
			other := *c.Configs[0]
			other.ConfigName, other.File = "other", &swarm.ConfigReferenceFileTarget{Name: "o"}
			c.Configs[0].ConfigID, c.Configs = "x", append(c.Configs, &other)
		}), 400, "configs not found: conf, other"},
	} {
		h.refused(c.name, "POST", "/services/create", c.spec, nil, c.status, c.message)
	}
	if h.hash() != before {
		t.Error("a refused request has changed the state")
	}
	if _, err := h.docker.ServiceCreate(t.Context(), using("web", secret, config), swarm.ServiceCreateOptions{}); err != nil {
		t.Error(err)
	}
}

// set calls the API that makes another version.
func (h *harness) set(path, data string) api.ValueSet {
	h.Helper()
	status, text := h.call("POST", "/shoal/v1/"+path+"/set", map[string]any{"Data": []byte(data)})
	var set api.ValueSet
	if err := json.Unmarshal([]byte(text), &set); status != 200 || err != nil {
		h.Fatalf("set %s: %d %s", path, status, text)
	}
	return set
}

func (h *harness) secretOf(service string) string {
	h.Helper()
	return h.service(service).Spec.TaskTemplate.ContainerSpec.Secrets[0].SecretID
}

func TestAnotherVersionRollsTheServicesThatFollowTheName(t *testing.T) {
	h := newHarness(t, statetest.Secret("s1", "db", 0), statetest.Config("c1", "conf", 0))
	v := h.store.View()
	create := func(name string, change func(*swarm.ServiceSpec)) {
		spec := using(name, v.Secret("s1"), v.Config("c1"))
		change(&spec)
		if _, err := h.docker.ServiceCreate(t.Context(), spec, swarm.ServiceCreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("web", func(*swarm.ServiceSpec) {})
	create("pinned", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Secrets[0].SecretName = "db@1" })

	set := h.set("secrets/db", "second")
	want := api.ValueSet{ID: h.store.View().SecretByName("db").ID, Version: 2, New: true, Rolled: []string{"web"}, Kept: []string{"pinned"}}
	if diff := cmp.Diff(want, set); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	web := h.service("web")
	if h.secretOf("web") != set.ID || h.secretOf("pinned") != "s1" || web.Revision != 2 || web.PreviousSpec.TaskTemplate.ContainerSpec.Secrets[0].SecretID != "s1" {
		t.Errorf("web %+v", web.Spec.TaskTemplate.ContainerSpec.Secrets[0])
	}
	if r := h.store.View().Revision(web.ID, 2); r == nil || r.Spec.TaskTemplate.ContainerSpec.Secrets[0].SecretID != set.ID {
		t.Errorf("revision %+v", r)
	}
	if again := h.set("secrets/db", "second"); again.New || again.ID != set.ID || len(again.Rolled) != 0 || h.service("web").Revision != 2 {
		t.Errorf("the same again: %+v", again)
	}

	// A rollback brings the version of that time back; setting the name, even to
	// what it is, rolls forward.
	web = h.service("web")
	if _, err := h.docker.ServiceUpdate(t.Context(), web.ID, web.Version, web.Spec, swarm.ServiceUpdateOptions{Rollback: "previous"}); err != nil {
		t.Fatal(err)
	}
	if h.secretOf("web") != "s1" {
		t.Errorf("after the rollback web uses %s", h.secretOf("web"))
	}
	web = h.service("web")
	web.Spec.TaskTemplate.ContainerSpec.Image = "web:2"
	if _, err := h.docker.ServiceUpdate(t.Context(), web.ID, web.Version, web.Spec, swarm.ServiceUpdateOptions{}); err != nil || h.secretOf("web") != "s1" {
		t.Errorf("another update changes the version to %s, %v", h.secretOf("web"), err)
	}
	if forward := h.set("secrets/db", "second"); forward.New || len(forward.Rolled) != 1 || h.secretOf("web") != set.ID {
		t.Errorf("forward: %+v", forward)
	}
}

func TestANewReferenceByNameIsToTheNewestVersion(t *testing.T) {
	h := newHarness(t, statetest.Secret("s1", "db", 1), statetest.Secret("s2", "db", 2), statetest.Config("c1", "conf", 0))
	v := h.store.View()
	if _, err := h.docker.ServiceCreate(t.Context(), using("web", v.Secret("s1"), v.Config("c1")), swarm.ServiceCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if h.secretOf("web") != "s2" {
		t.Errorf("web uses %s", h.secretOf("web"))
	}
}

func TestARollbackToWhatIsGoneIsRefused(t *testing.T) {
	secret, config := statetest.Secret("s1", "db", 0), statetest.Config("c1", "conf", 0)
	h := newHarness(t, secret, config)
	if _, err := h.docker.ServiceCreate(t.Context(), using("web", secret, config), swarm.ServiceCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	web := h.service("web")
	if _, err := h.docker.ServiceUpdate(t.Context(), web.ID, web.Version, webSpec("web", 1), swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.docker.SecretRemove(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	web = h.service("web")
	_, err := h.docker.ServiceUpdate(t.Context(), web.ID, web.Version, web.Spec, swarm.ServiceUpdateOptions{Rollback: "previous"})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "secret not found: db") {
		t.Errorf("rollback: %v", err)
	}
}

func TestRemovingANameRemovesItsVersions(t *testing.T) {
	h := newHarness(t, statetest.Secret("s1", "db", 1), statetest.Secret("s2", "db", 2), statetest.Secret("s3", "db", 3))
	if err := h.docker.SecretRemove(t.Context(), "db@1"); err != nil || h.store.View().Secret("s1") != nil || h.store.View().Secret("s2") == nil {
		t.Errorf("removing one version: %v", err)
	}
	web, webRev := statetest.Service("web", 1, statetest.Uses(h.store.View().Secret("s2")))
	h.store.Put(web, webRev)
	if err := h.docker.SecretRemove(t.Context(), "db"); err == nil || !strings.Contains(err.Error(), "in use by the following service: web") {
		t.Errorf("an older version in use: %v", err)
	}
	h.store.Apply(state.Delete(state.KindService, "web"))
	if err := h.docker.SecretRemove(t.Context(), "s3"); err != nil {
		t.Error(err)
	}
	for s := range h.store.View().SecretsByPrefix("") {
		t.Errorf("%s is left", s.ID)
	}
}

func TestEventsTellOfNamesAndNotOfVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		seen, _ := follow(t, store, url.Values{})
		first, second := statetest.Secret("s1", "db", 1), statetest.Secret("s2", "db", 2)
		store.Put(first)
		store.Put(second, statetest.Config("c1", "conf", 0))
		store.Apply(state.Delete(state.KindSecret, "s1"))
		store.Put(statetest.Secret("s3", "db", 3))
		store.Apply(state.Delete(state.KindSecret, "s3"), state.Delete(state.KindSecret, "s2"))
		store.Put(statetest.Secret("s4", "db", 0))
		synctest.Wait()
		var got []string
		for _, m := range *seen {
			got = append(got, strings.TrimSpace(text(m)+" "+m.Actor.Attributes["version"]))
		}
		want := []string{
			"secret create s1 name=db", "secret update s2 name=db 2", "config create c1 name=conf", "secret update s3 name=db 3",
			"secret remove s3 name=db", "secret create s4 name=db",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// What was made under a request id is answered again, and nothing of the data
// is in what is remembered.
func TestRepeatedCreationIsOne(t *testing.T) {
	h := newHarness(t)
	spec := secretSpec("db", canary+"data")
	_, first := h.call("POST", "/secrets/create", spec, "X-Shoal-Request: r1")
	status, second := h.call("POST", "/secrets/create", spec, "X-Shoal-Request: r1")
	if status != 201 || first != second {
		t.Errorf("%d %s, first %s", status, second, first)
	}
	for r := range h.store.View().RequestsByAge() {
		expectNoSecret(t, "request", r.ID+string(r.Body))
	}
	if err := h.docker.SecretRemove(t.Context(), "db"); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

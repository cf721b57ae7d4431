package api_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

const canary = "canary-"

// secretObjects hold a canary wherever state keeps a secret.
func secretObjects() []state.Object {
	web, webRev := statetest.Service("web", 1)
	old := *webRev
	web.Revision, webRev.Number, web.PreviousRevision = 2, 2, 1
	previous := old.Spec
	web.PreviousSpec = &previous
	for _, auth := range []*string{&web.RegistryAuth, &webRev.RegistryAuth, &old.RegistryAuth} {
		*auth = base64.URLEncoding.EncodeToString([]byte(`{"password":"` + canary + `auth"}`))
	}
	c := clusterObject()
	c.Spec.CAConfig.SigningCAKey, c.Spec.CAConfig.SigningCACert = canary+"signing-key", canary+"signing-cert"
	return []state.Object{
		c, web, webRev, &old, statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1"),
		statetest.Task("t2", "web", 2, "", pending("no suitable node (insufficient memory on 1 node)")),
		&state.Secret{Secret: swarm.Secret{ID: "s1", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "s1"}, Data: []byte(canary + "secret")}}},
	}
}

func TestNoAnswerHoldsASecret(t *testing.T) {
	h := newHarness(t, secretObjects()...)
	service := h.service("web")
	for _, route := range h.api.Routes() {
		for _, id := range []string{"web", "t1", "t2", "n1", "s1", "nope"} {
			path := strings.ReplaceAll(route.Pattern, "{id}", id) + "?status=1&insertDefaults=1&force=1&version=" + service.Version.String()
			for _, body := range []any{nil, webSpec("web", 2), defaultSwarmSpec(), swarm.NodeSpec{Role: "worker", Availability: "active"}, map[string]any{"Data": []byte("{{" + canary)}} {
				if body == nil && route.Write || body != nil && route.Method != http.MethodPost {
					if route.Method != http.MethodDelete || body != nil {
						continue
					}
				}
				_, text := h.call(route.Method, path, body, "X-Registry-Auth: "+auth(canary+"header"))
				expectNoSecret(t, route.Method+" "+path, text)
			}
			if !strings.Contains(route.Pattern, "{id}") {
				break
			}
		}
	}
}

func expectNoSecret(t *testing.T, what, text string) {
	t.Helper()
	encoded := func(s string) []string {
		return []string{s, strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "="), strings.TrimRight(base64.URLEncoding.EncodeToString([]byte(s)), "=")}
	}
	for _, s := range []string{canary, `{"password":"` + canary, `{"username":"` + canary, canary + "root-key", canary + "gossip-key", canary + "overlay-key", canary + "hash"} {
		for _, form := range encoded(s) {
			if len(form) > 4 && strings.Contains(text, form[:len(form)-1]) {
				t.Errorf("%s gives away %q: %s", what, form, text)
			}
		}
	}
	for _, field := range []string{"RegistryAuth", "RootKey", "GossipKeys", "OverlayKey", "Revision", `"Tokens"`, "Boot"} {
		if strings.Contains(text, field) {
			t.Errorf("%s shows the internal field %s: %s", what, field, text)
		}
	}
}

func TestNoEventHoldsASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		a := watch(t, store)
		store.Put(secretObjects()...)
		synctest.Wait()
		until := url.Values{"until": {strconv.FormatInt(time.Now().Unix()+1, 10)}}
		count := 0
		err := a.Events(t.Context(), until, func(e any) error {
			raw, err := json.Marshal(e.(events.Message))
			expectNoSecret(t, "event", string(raw))
			count++
			return err
		})
		if err != nil || count == 0 {
			t.Errorf("%d events, %v", count, err)
		}
	})
}

// TestAnswersAreNotStoredObjects keeps the types of the state, which hold
// secrets, out of what is encoded for clients.
func TestAnswersAreNotStoredObjects(t *testing.T) {
	internal := reflect.TypeFor[state.Service]().PkgPath()
	seen := map[reflect.Type]bool{}
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		if typ.PkgPath() == internal {
			t.Errorf("%s is a %s", path, typ)
		}
		switch typ.Kind() {
		case reflect.Struct:
			for f := range typ.Fields() {
				walk(path+"."+f.Name, f.Type)
			}
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			walk(path+"[]", typ.Elem())
		default:
		}
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[swarm.Service](), reflect.TypeFor[swarm.Node](), reflect.TypeFor[swarm.Task](), reflect.TypeFor[swarm.Swarm](),
		reflect.TypeFor[swarm.ServiceCreateResponse](), reflect.TypeFor[swarm.ServiceUpdateResponse](), reflect.TypeFor[api.Why](), reflect.TypeFor[swarm.Secret](), reflect.TypeFor[swarm.Config](), reflect.TypeFor[api.ValueSet](), reflect.TypeFor[[]api.ValueVersion](), reflect.TypeFor[events.Message](),
	} {
		walk(typ.String(), typ)
	}
}

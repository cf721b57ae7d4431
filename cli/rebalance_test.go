package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
)

// uneven is a fake cluster with one service that would be better spread, one that
// cannot be now, and one that is as it should be.
func uneven(t *testing.T) (f *fakeServer, asked *[]string) {
	t.Helper()
	f, asked = cluster(t), &[]string{}
	answers := map[string]string{
		"web": `{"ServiceID":"web","Name":"web","Rebalance":"advise","Held":"","Moves":[{"Task":"web.3","TaskID":"t3","From":"host1","To":"host2","Why":"host1 has 3 tasks of the service, host2 has 0"}]}`,
		"db":  `{"ServiceID":"db","Name":"db","Rebalance":"off","Held":"its update is paused","Moves":[]}`,
		"api": `{"ServiceID":"api","Name":"api","Rebalance":"auto","Held":"","Moves":[]}`,
	}
	f.streams = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path == "/shoal/v1/rebalance" {
			var list []json.RawMessage
			for _, name := range []string{"api", "db", "web"} {
				if refs := r.URL.Query()["service"]; len(refs) == 0 || strings.Contains(strings.Join(refs, " "), name) {
					list = append(list, json.RawMessage(answers[name]))
				}
			}
			write(w, list)
			return true
		}
		name, ours := strings.CutSuffix(strings.TrimPrefix(path, "/shoal/v1/services/"), "/rebalance")
		if !ours {
			return false
		}
		*asked = append(*asked, name)
		if name == "db" {
			w.Header().Set("Content-Type", "application/json")
			refuse(w, http.StatusBadRequest, "service db cannot be rebalanced now: its update is paused")
			return true
		}
		write(w, json.RawMessage(answers[name]))
		return true
	}
	return f, asked
}

func TestRebalance(t *testing.T) {
	const moves = "TASK    FROM    TO      WHY\nweb.3   host1   host2   host1 has 3 tasks of the service, host2 has 0\n"
	for _, c := range []struct {
		args        string
		out, stderr string
		asked       string
		code        int
	}{
		{"rebalance web", moves, "", "web", 0},
		{"rebalance --all", moves, "", "web", 0},
		{"rebalance web api", moves + "api: nothing to move\n", "", "api web", 0},
		{"rebalance db", "", "service db cannot be rebalanced now: its update is paused", "db", 1},
		{"rebalance web db", moves, "its update is paused", "db web", 1},
		{"rebalance --dry-run", moves, "", "", 0},
		{"rebalance --dry-run db api", "api: nothing to move\ndb: not now: its update is paused\n", "", "", 0},
		{"rebalance", "", "name a service, or give --all", "", 1},
		{"rebalance --all web", "", "--all goes without names of services", "", 1},
	} {
		f, asked := uneven(t)
		out, stderr, code := f.run(t, strings.Fields(c.args)...)
		if out != c.out || !strings.Contains(stderr, c.stderr) || code != c.code || strings.Join(*asked, " ") != c.asked {
			t.Errorf("%s: exit %d, asked for %v\n%s%s", c.args, code, *asked, out, stderr)
		}
	}
}

func TestRebalanceSetting(t *testing.T) {
	f := cluster(t)
	f.swarm.Spec.Name = "default"
	sent := func(request string) (setting *string, text string) {
		t.Helper()
		var body struct {
			Rebalance *string `json:"Rebalance"`
		}
		if err := json.Unmarshal(f.bodies[request], &body); err != nil {
			t.Fatalf("%s: %v", request, err)
		}
		return body.Rebalance, string(f.bodies[request])
	}
	for _, c := range []struct{ args, request, want string }{
		{"update --rebalance auto", "POST /swarm/update", "auto"},
		{"update --rebalance default", "POST /swarm/update", ""},
		{"service create -d --name a --rebalance off nginx", "POST /services/create", "off"},
		{"service update -d --rebalance auto web", "POST /services/service1xxxxxxxxxxxxxxxxx/update", "auto"},
		{"service update -d --rebalance default web", "POST /services/service1xxxxxxxxxxxxxxxxx/update", ""},
	} {
		if out, stderr, code := f.run(t, strings.Fields(c.args)...); code != 0 {
			t.Fatalf("%s: exit %d: %s%s", c.args, code, out, stderr)
		}
		if got, text := sent(c.request); got == nil || *got != c.want || !strings.Contains(text, `"Name":`) || strings.Contains(text, `"Run":`) {
			t.Errorf("%s: sent %s", c.args, text)
		}
	}
	f.run(t, "service", "update", "-d", "--label-add", "a=b", "web")
	if got, text := sent("POST /services/service1xxxxxxxxxxxxxxxxx/update"); got != nil {
		t.Errorf("an update of something else sent %s", text)
	}
	if _, stderr, code := f.run(t, "update"); code != 1 || !strings.Contains(stderr, "nothing to change") {
		t.Errorf("update of nothing: exit %d: %s", code, stderr)
	}
	if _, stderr, code := f.run(t, "update", "--rebalance", "always"); code != codeFlag || !strings.Contains(stderr, `must be one of "auto", "advise", "off", "default"`) {
		t.Errorf("a wrong value: exit %d: %s", code, stderr)
	}
	// It is no update: what has become of the last one does not matter, unless there is one now.
	f.update = &swarm.UpdateStatus{State: swarm.UpdateStateRollbackCompleted, Message: "rollback completed"}
	for args, want := range map[string]int{"--rebalance auto": 0, "--rebalance auto --label-add a=b": 1} {
		if out, stderr, code := f.run(t, append(append([]string{"service", "update"}, strings.Fields(args)...), "web")...); code != want {
			t.Errorf("service update %s: exit %d, want %d: %s%s", args, code, want, out, stderr)
		}
	}
}

package check

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func asked(id string, change func(*Report)) Asked {
	began := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	a := Asked{Peer: Peer{NodeID: id, Addr: "192.0.2.1:2377"}, Name: "host-" + id, Began: began, Ended: began.Add(2 * time.Second)}
	a.Report = Report{NodeID: id, Received: began.Add(time.Millisecond), Sent: a.Ended.Add(-time.Millisecond), Audited: true, Compared: 10, Findings: []Finding{ok("kernel", "all")}}
	if change != nil {
		change(&a.Report)
	}
	return a
}

func link(id string) Link {
	return Link{NodeID: id, RTT: time.Millisecond, MTU: 1500, HasMesh: true, LocalMTU: 1450, Mesh: MeshLink{RTT: time.Millisecond, MTU: 1450}}
}

func findings(d Diagnosis) (out []string) {
	for _, f := range d.Findings {
		out = append(out, f.Node+" "+f.Check+" "+string(f.Level))
	}
	return out
}

func TestMergeOfAGoodCluster(t *testing.T) {
	d := Merge([]Asked{
		asked("a", func(r *Report) { r.Links = []Link{link("b")} }),
		asked("b", func(r *Report) { r.Links = []Link{link("a")} }),
	})
	if d.Bad() || len(d.Findings) != 0 || len(d.Pairs) != 2 || d.Pairs[0].From != "host-a" || d.Pairs[0].To != "host-b" {
		t.Errorf("%+v", d)
	}
	want := NodeHealth{NodeID: "a", Name: "host-a", Reached: true, Audited: true, Compared: 10, Checks: 1}
	if diff := cmp.Diff(want, d.Nodes[0]); diff != "" {
		t.Error(diff)
	}
}

func TestMergeTellsWhatIsWrong(t *testing.T) {
	ahead := func(by time.Duration) func(*Report) {
		return func(r *Report) { r.Received, r.Sent = r.Received.Add(by), r.Sent.Add(by) }
	}
	with := func(change func(*Link)) func(*Report) {
		return func(r *Report) {
			l := link("b")
			change(&l)
			r.Links = []Link{l}
		}
	}
	for name, c := range map[string]struct {
		change func(*Report)
		want   []string
	}{
		"a finding":           {func(r *Report) { r.Findings = []Finding{{"mtu", Warn, "d", "r"}, {"engine", Bad, "d", "r"}} }, []string{"host-a engine bad", "host-a mtu warn"}},
		"no data plane":       {func(r *Report) { r.Audited = false }, []string{"host-a data plane warn"}},
		"differences":         {func(r *Report) { r.Differences = []string{"1", "2", "3", "4"} }, []string{"host-a data plane warn"}},
		"an audit that fails": {func(r *Report) { r.AuditError = "no" }, []string{"host-a data plane bad"}},
		"a clock":             {ahead(2 * time.Second), []string{"host-a clock warn"}},
		"a clock far behind":  {ahead(-time.Hour), []string{"host-a clock bad"}},
		"no connection":       {with(func(l *Link) { l.RTT, l.Error = 0, "refused" }), []string{"host-a to host-b bad"}},
		"no mesh":             {with(func(l *Link) { l.Mesh = MeshLink{} }), []string{"host-a to host-b bad"}},
		"a small mesh":        {with(func(l *Link) { l.Mesh.MTU = 1280 }), []string{"host-a to host-b bad"}},
		"no mesh yet":         {with(func(l *Link) { l.HasMesh, l.Mesh, l.LocalMTU = false, MeshLink{}, 0 }), nil},
	} {
		d := Merge([]Asked{asked("a", c.change), asked("b", nil)})
		if diff := cmp.Diff(c.want, findings(d)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, f := range d.Findings {
			if f.Detail == "" || f.Remedy == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// One node that is away is one finding, not one for each of the others.
func TestMergeOfANodeThatIsAway(t *testing.T) {
	gone := asked("c", nil)
	gone.Report, gone.Err = Report{}, errors.New("timeout")
	toGone := func(reached bool) func(*Report) {
		return func(r *Report) {
			l := Link{NodeID: "c", Error: "timeout"}
			if reached {
				l = link("c")
			}
			r.Links = []Link{l}
		}
	}
	d := Merge([]Asked{asked("a", toGone(false)), asked("b", toGone(true)), gone})
	if diff := cmp.Diff([]string{"host-c reachable bad"}, findings(d)); diff != "" || !d.Bad() {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := "the leader does not reach 192.0.2.1:2377: timeout; 1 of 2 other nodes do"
	if f := d.Findings[0]; f.Detail != want {
		t.Errorf("%q, want %q", f.Detail, want)
	}
	if n := d.Nodes[2]; n.Reached || n.Name != "host-c" {
		t.Errorf("%+v", n)
	}
}

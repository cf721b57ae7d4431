package cli

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"shoal/overlay/check"
)

func runWith(t *testing.T, f *fakeServer, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), Config{Args: append([]string{"-H", f.host}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Version: "1.2.3"})
	return code, out.String(), errs.String()
}

func TestDoctorExitsWithOneWhenSomethingIsBad(t *testing.T) {
	f := newFakeServer(t)
	for level, want := range map[check.Level]int{check.Bad: 1, check.Warn: 0} {
		d := check.Diagnosis{
			Nodes:    []check.NodeHealth{{NodeID: "a", Name: "host1", Reached: true}},
			Findings: []check.NodeFinding{{Node: "host1", Finding: check.Finding{Check: "engine", Level: level, Detail: "d", Remedy: "start it"}}},
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		f.doctor = string(text)
		code, out, errs := runWith(t, f, "doctor")
		if code != want || errs != "" || !strings.Contains(out, "host1, engine: start it") {
			t.Errorf("%s: exit %d, want %d\n%s%s", level, code, want, out, errs)
		}
		code, out, _ = runWith(t, f, "doctor", "--format", "json")
		var again check.Diagnosis
		if err := json.Unmarshal([]byte(out), &again); code != want || err != nil || len(again.Findings) != 1 {
			t.Errorf("%s as JSON: exit %d, %v\n%s", level, code, err, out)
		}
	}
}

func TestWriteFindings(t *testing.T) {
	var out bytes.Buffer
	s := newShell(Config{Stdout: &out})
	if err := s.writeFindings([]check.Finding{{Check: "kernel", Level: check.OK, Detail: "all"}}, "table"); err != nil || !strings.Contains(out.String(), "kernel") {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := s.writeFindings([]check.Finding{{Check: "kernel", Level: check.Bad}}, "json"); err == nil || !strings.Contains(out.String(), `"level": "bad"`) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestAdvertisedIsAnAddress(t *testing.T) {
	for text, want := range map[string]string{"": "invalid IP", "192.0.2.1": "192.0.2.1", "192.0.2.1:2377": "192.0.2.1", "[fd00::1]:2377": "fd00::1", "fd00::1": "fd00::1"} {
		if got, err := advertised(text); err != nil || got.String() != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	if _, err := advertised("no-such-link"); err == nil {
		t.Error("an interface that is not there is no error")
	}
	// The loopback has no address that others could reach.
	if _, err := net.InterfaceByName("lo"); err == nil {
		if got, err := advertised("lo"); err == nil {
			t.Errorf("lo: %s", got)
		}
	}
}

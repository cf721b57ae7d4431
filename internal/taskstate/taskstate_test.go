package taskstate

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestStatesAreOrderedAndNamed(t *testing.T) {
	all := All()
	if len(all) != len(names) || !slices.IsSorted(all) {
		t.Fatalf("All() = %v: want the %d named states in order", all, len(names))
	}
	for _, s := range all {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("marshal %d: %v", s, err)
		}
		var back State
		if err := json.Unmarshal(text, &back); err != nil || back != s {
			t.Errorf("%s: read back as %v, err %v", text, back, err)
		}
	}
}

func TestUnknownStateIsRefused(t *testing.T) {
	var s State
	if err := json.Unmarshal([]byte(`"flying"`), &s); err == nil {
		t.Error("unmarshal of an unknown state succeeded")
	}
	if _, err := json.Marshal(State(7)); err == nil {
		t.Error("marshal of an unknown state succeeded")
	}
}

func TestTerminalBeginsAfterRunning(t *testing.T) {
	for _, s := range All() {
		if got, want := s.Terminal(), s > Running; got != want {
			t.Errorf("%v.Terminal() = %v, want %v", s, got, want)
		}
	}
}

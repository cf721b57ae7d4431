package integration

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails a run that leaves goroutines of a node behind. memberlist
// does not wait for a probe that is on its way when it shuts down.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"),
	)
}

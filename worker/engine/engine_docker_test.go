//go:build docker

package engine_test

import (
	"testing"

	"shoal/worker/engine"
	"shoal/worker/engine/enginetest"
)

func TestDockerBehavesAsAnEngine(t *testing.T) {
	e, err := engine.New(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	enginetest.Suite(t, e, enginetest.Image(t))
}

//go:build docker

package executor

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
)

// withCheck is the test's image with a health check of its own.
func (d *dockerRun) withCheck(word string) string {
	d.t.Helper()
	name := strings.TrimSuffix(d.image, ":test") + ":" + word
	build := exec.CommandContext(d.t.Context(), "docker", "build", "-q", "-t", name, "-")
	build.Env = append(build.Environ(), "DOCKER_BUILDKIT=0")
	build.Stdin = strings.NewReader("FROM " + d.image + "\nHEALTHCHECK --interval=100ms --retries=2 CMD [\"/probe\", \"check\", \"" + word + "\"]\n")
	if out, err := build.CombinedOutput(); err != nil {
		d.t.Fatalf("docker build: %v\n%s", err, out)
	}
	d.t.Cleanup(func() {
		_ = exec.CommandContext(context.WithoutCancel(d.t.Context()), "docker", "rmi", "-f", name).Run()
	})
	return name
}

// A check of the image counts like one of the service, which may change parts
// of it or switch it off.
func TestDockerHealthCheckOfTheImage(t *testing.T) {
	d := newDockerRun(t)
	ok, bad := d.withCheck("ok"), d.withCheck("bad")
	of := func(image string, h *container.HealthConfig) func(*swarm.ContainerSpec) {
		return func(c *swarm.ContainerSpec) { c.Image, c.Healthcheck = image, h }
	}
	healthy, sick := with(d.task("serve"), of(ok, nil)), with(d.task("serve"), of(bad, nil))
	off := with(d.task("serve"), of(bad, &container.HealthConfig{Test: []string{"NONE"}}))
	starting := with(d.task("serve"), of(bad, &container.HealthConfig{StartPeriod: time.Hour}))
	replaced := with(d.task("serve"), of(bad, &container.HealthConfig{Test: []string{"CMD", "/probe", "check", "ok"}}))
	d.x.Set(set(healthy, sick, off, starting, replaced), true)
	for _, id := range []string{healthy.ID, off.ID, replaced.ID} {
		d.until(id, taskstate.Running)
	}
	if got := d.until(sick.ID, taskstate.Failed); got.Err != "dockerexec: unhealthy container" {
		t.Errorf("with a check that fails: %+v", got)
	}
	if got := d.until(starting.ID, taskstate.Starting); got.State != taskstate.Starting {
		t.Errorf("failures in the start period: %+v", got)
	}
}

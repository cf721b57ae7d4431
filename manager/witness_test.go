package manager

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func failedTask() *state.Task {
	return statetest.Task("t1", "web", 1, "n1", func(t *state.Task) { t.Status.ContainerID = "c1" })
}

// engineOf answers with a log and a state.
func engineOf(lines []string, s *container.State) witness {
	return witness{
		tail: func(context.Context, *state.Task, int) ([]string, error) { return lines, nil },
		inspect: func(context.Context, string, string) (io.ReadCloser, error) {
			text, err := json.Marshal(map[string]any{"Id": "c1", "State": s})
			return io.NopCloser(strings.NewReader(string(text))), err
		},
		name: func(id string) string { return "host-" + id },
	}
}

func TestWitnessTellsOfAnEnd(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	check := func(second, code int, text string) *container.HealthcheckResult {
		return &container.HealthcheckResult{End: at.Add(time.Duration(second) * time.Second), ExitCode: code, Output: text}
	}
	s := &container.State{OOMKilled: true, Health: &container.Health{Log: []*container.HealthcheckResult{
		check(0, 1, "first"), check(1, 0, "fine"), check(2, 2, "second"), check(3, 7, "refused"), check(4, 7, "refused"), nil, check(5, 1, strings.Repeat("x", 2000)),
	}}}
	got := engineOf([]string{"one", "two"}, s).ask(t.Context(), failedTask())
	want := api.Testimony{Output: []string{"one", "two"}, OOM: true, Health: []api.Checkup{
		{At: at.Add(2 * time.Second), ExitCode: 2, Output: "second", Times: 1},
		{At: at.Add(4 * time.Second), ExitCode: 7, Output: "refused", Times: 2},
		{At: at.Add(5 * time.Second), ExitCode: 1, Output: strings.Repeat("x", maxCheckup), Times: 1},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := engineOf(nil, nil).ask(t.Context(), failedTask()); !cmp.Equal(got, api.Testimony{}) {
		t.Errorf("nothing to tell: %+v", got)
	}
}

func TestWitnessThatIsLostCostsALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := witness{
			tail: func(ctx context.Context, _ *state.Task, _ int) ([]string, error) {
				<-ctx.Done()
				return []string{"one"}, ctx.Err()
			},
			inspect: func(ctx context.Context, _, _ string) (io.ReadCloser, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
			name: func(id string) string { return "host-" + id },
		}
		got := w.ask(t.Context(), failedTask())
		want := api.Testimony{Output: []string{"one"}, Missing: []string{"node host-n1 has not answered within 3s"}}
		if diff := cmp.Diff(want, got); diff != "" || time.Since(began) != witnessTime {
			t.Errorf("after %s, (-want +got):\n%s", time.Since(began), diff)
		}
	})
	for err, want := range map[error]string{
		errdefs.ErrNotFound.WithMessage("No such container: c1"):                    "the container is gone from node host-n1",
		errdefs.ErrUnavailable.WithMessage("node h1 cannot be reached: it is down"): "node h1 cannot be reached: it is down",
		errors.New("configured logging driver does not support reading"):            "configured logging driver does not support reading",
	} {
		w := engineOf(nil, &container.State{})
		w.tail = func(context.Context, *state.Task, int) ([]string, error) { return nil, err }
		if errdefs.IsUnavailable(err) {
			w.inspect = func(context.Context, string, string) (io.ReadCloser, error) { return nil, err }
		}
		if got := w.ask(t.Context(), failedTask()); !cmp.Equal(got, api.Testimony{Missing: []string{want}}) {
			t.Errorf("%v: %+v", err, got)
		}
	}
	w := engineOf(nil, nil)
	w.inspect = func(context.Context, string, string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("<html>")), nil
	}
	if got := w.ask(t.Context(), failedTask()); len(got.Missing) != 1 || !strings.Contains(got.Missing[0], "what node host-n1 says of the container cannot be read") {
		t.Errorf("nonsense: %+v", got)
	}
}

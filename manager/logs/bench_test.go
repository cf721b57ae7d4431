package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/docker/docker/pkg/stdcopy"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// BenchmarkMerge is how fast the lines of many containers go through one
// answer, with what `docker service logs` asks for.
func BenchmarkMerge(b *testing.B) {
	for _, c := range []struct{ tasks, length int }{{1, 100}, {100, 100}, {1000, 100}, {100, 1000}} {
		b.Run(fmt.Sprintf("tasks=%d/line=%d", c.tasks, c.length), func(b *testing.B) {
			var tasks []*state.Task
			for i := range c.tasks {
				tasks = append(tasks, statetest.Task(fmt.Sprintf("t%04d", i), "web", i+1, fmt.Sprintf("n%d", 1+i%3), withContainer))
			}
			store, n := world(tasks...)
			content := bytes.Repeat(line(stdcopy.Stdout, 1, "", string(bytes.Repeat([]byte("x"), c.length))), 1<<20/c.length)
			for _, t := range tasks {
				n.set("c-"+t.ID, func(context.Context, url.Values) (io.ReadCloser, error) {
					return io.NopCloser(bytes.NewReader(content)), nil
				})
			}
			h := server(store, n)
			b.SetBytes(int64(len(content) * c.tasks))
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(&slow{to: io.Discard}, httptest.NewRequest(http.MethodGet, "/services/web/logs?stdout=1&stderr=1&details=1", nil))
			}
		})
	}
}

package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"shoal/raftstore/state/statetest"
)

func TestTail(t *testing.T) {
	task := statetest.Task("t1", "web", 1, "n1", withContainer)
	store, n := world(task)
	l := New(Config{Store: store, Open: n.open})
	long := strings.Repeat("x", 2*maxTail)
	broken := func(context.Context, url.Values) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(line(stdcopy.Stdout, 1, "-", "one")), failing{})), nil
	}
	for name, c := range map[string]struct {
		log  func(context.Context, url.Values) (io.ReadCloser, error)
		want []string
		err  string
	}{
		"two streams":       {fixed(line(stdcopy.Stdout, 1, "-", "one"), line(stdcopy.Stderr, 2, "-", "two")), []string{"one\n", "two\n"}, ""},
		"nothing":           {fixed(), nil, ""},
		"more than asked":   {fixed(line(stdcopy.Stdout, 1, "-", "one"), line(stdcopy.Stdout, 2, "-", "two"), line(stdcopy.Stdout, 3, "-", "three")), []string{"two\n", "three\n"}, ""},
		"a long line":       {fixed(line(stdcopy.Stdout, 1, "-", long)), []string{long[:maxTail]}, ""},
		"no container":      {nil, nil, "No such container: c-t1"},
		"an engine's error": {fixed(line(stdcopy.Stdout, 1, "-", "one"), line(stdcopy.Systemerr, 1, "-", "bad")), []string{"one\n"}, "node n1: " + at(1) + " bad\n"},
		"a node is lost":    {broken, []string{"one\n"}, "node n1 was lost: gone"},
	} {
		n.set("c-t1", c.log)
		got, err := l.Tail(t.Context(), task, 2)
		if text := errText(err); !slices.Equal(got, c.want) || text != c.err {
			t.Errorf("%s: %q, %q; want %q, %q", name, got, text, c.want, c.err)
		}
	}
	if last := n.asked[len(n.asked)-1]; last != "c-t1 stderr=1&stdout=1&tail=2&timestamps=1" {
		t.Errorf("asked for %s", last)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("gone") }

// An engine that does not end its answer costs a line: the log of a container
// that is not followed has an end.
func TestALogThatDoesNotEndIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, n := world(statetest.Task("t1", "web", 1, "n1", withContainer), statetest.Task("t2", "web", 2, "n2", withContainer), statetest.Task("t3", "web", 3, "n3", withContainer))
		stuck, feed := io.Pipe()
		defer feed.Close()
		n.set("c-t1", live(stuck))
		n.set("c-t2", fixed(line(stdcopy.Stdout, 1, "-", "two")))
		n.set("c-t3", func(ctx context.Context, _ url.Values) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		began := time.Now()
		go func() {
			time.Sleep(idleTime / 2)
			_, _ = feed.Write(line(stdcopy.Stdout, 1, "-", "one"))
		}()
		out, _, err := demux(t, get(server(store, n), "/services/web/logs?stdout=1&stderr=1").Body)
		if !slices.Equal(out, []string{"one", "two"}) || time.Since(began) != idleTime*3/2 {
			t.Errorf("after %s: %q", time.Since(began), out)
		}
		if text := errText(err); !strings.Contains(text, "node n1 was given up: it has not said anything for 10s") || !strings.Contains(text, "node n3 was given up") {
			t.Errorf("it ends with %q", text)
		}
	})
}

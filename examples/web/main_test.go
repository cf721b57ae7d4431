package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCommandsEndAsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   string
		code   int
		stdout string
	}{
		{"exit 7", 7, ""},
		{"exit seven", 2, ""},
		{"echo a b", 0, "a\nb\n"},
		{"cat " + file, 0, "s3cret"},
		{"cat /no/such/file", 1, ""},
		{"sleep 0", 0, ""},
		{"sleep soon", 1, ""},
		{"eat much", 1, ""},
		{"dance", 2, ""},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr)
		if code != test.code || stdout.String() != test.stdout {
			t.Errorf("%s: code %d, stdout %q; want %d, %q; stderr %q", test.args, code, stdout.String(), test.code, test.stdout, stderr.String())
		}
		if code != 0 && stderr.Len() == 0 && !strings.HasPrefix(test.args, "exit") {
			t.Errorf("%s: failed without a word", test.args)
		}
	}
}

// few counts what it is given, and says when it has had enough.
type few struct {
	got    []string
	enough func()
}

func (l *few) Write(p []byte) (int, error) {
	if l.got = append(l.got, string(p)); len(l.got) == 3 {
		l.enough()
	}
	return len(p), nil
}

func TestTalkNumbersItsLines(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &few{enough: cancel}
	if code := run(ctx, []string{"talk", "20"}, out, io.Discard); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got, want := strings.Join(out.got, ""), "0000000000 xxxxxxxx\n0000000001 xxxxxxxx\n0000000002 xxxxxxxx\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	ctx, cancel = context.WithCancel(t.Context())
	out = &few{enough: cancel}
	if code := run(ctx, []string{"talk", "20", "3"}, out, io.Discard); code != 0 || len(out.got) != 3 {
		t.Errorf("three lines: exit code %d, %q", code, out.got)
	}
	for _, args := range [][]string{{"talk"}, {"talk", "few"}, {"talk", "11"}, {"talk", "20", "some"}} {
		if code := run(t.Context(), args, out, io.Discard); code != 1 {
			t.Errorf("%q: exit code %d", args, code)
		}
	}
}

func TestSleepEndsWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if code := run(ctx, []string{"sleep", "1000000"}, io.Discard, io.Discard); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestHandlerTellsItsVersionAndHealth(t *testing.T) {
	t.Setenv("VERSION", "2")
	site := handler()
	for _, step := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/", 200, " version 2 "},
		{"GET", "/healthz", 200, "ok"},
		{"PUT", "/healthz?ok=false", 204, ""},
		{"GET", "/healthz", 503, "sick"},
		{"PUT", "/healthz?ok=true", 204, ""},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/sleep?d=1ms", 200, "slept 1ms"},
		{"GET", "/sleep?d=never", 400, "invalid duration"},
		{"GET", "/nothing", 404, ""},
	} {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest(step.method, step.path, nil))
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.body) {
			t.Errorf("%s %s: %d %q; want %d %q", step.method, step.path, w.Code, w.Body, step.status, step.body)
		}
	}
}

func TestCheckWantsSuccess(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if code := run(t.Context(), []string{"check", server.URL}, io.Discard, io.Discard); code != 1 {
		t.Errorf("check of a 404 ended with %d, want 1", code)
	}
	if err := check(t.Context(), "http://127.0.0.1:1/"); err == nil {
		t.Error("check of a closed port succeeded")
	}
}

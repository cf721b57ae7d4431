package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestImageIsTheSameEveryTime(t *testing.T) {
	program := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	image := Image{Ref: "a:1", Program: program, Names: []string{"a", "sleep"}}
	first, err := image.Tar()
	if err != nil {
		t.Fatal(err)
	}
	second, err := image.Tar()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the second tar differs, err %v", err)
	}
	names := tarNames(t, first)
	if !slices.Contains(names, "manifest.json") || !slices.Contains(names, "layer.tar") || len(names) != 3 {
		t.Errorf("the image has %q", names)
	}
	layer, err := image.layer([]byte("#!"))
	if err != nil {
		t.Fatal(err)
	}
	if names := tarNames(t, layer); !slices.Contains(names, "bin/a") || !slices.Contains(names, "bin/sleep") {
		t.Errorf("the layer has %q", names)
	}
	if _, err := (Image{Program: "/no/such", Names: []string{"a"}}).Tar(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image without a program: %v", err)
	}
}

func tarNames(t *testing.T, b []byte) []string {
	t.Helper()
	var names []string
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestManagersAreOddAndMost(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, 3: 3, 5: 3, 6: 3, 7: 5, 50: 5} {
		if got := Managers(n); got != want {
			t.Errorf("Managers(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestWaitForTellsWhatItSawLast(t *testing.T) {
	err := WaitFor(t.Context(), time.Millisecond, "the end", func() (string, bool) { return "half of it", false })
	if err == nil || !strings.Contains(err.Error(), "wait for the end") || !strings.Contains(err.Error(), "half of it") {
		t.Errorf("error %v", err)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v is not the deadline's", err)
	}
	if err := WaitFor(t.Context(), time.Hour, "nothing", func() (string, bool) { return "", true }); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesAnImpossibleSize(t *testing.T) {
	for _, n := range []int{-1, 0, MaxHosts + 1} {
		if _, err := New(t.Context(), Config{Hosts: n}); err == nil {
			t.Errorf("a lab of %d hosts was built", n)
		}
	}
}

func TestOpenWithoutALab(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want not exist", err)
	}
}

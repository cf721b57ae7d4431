package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestRunRefusesWhatItCannotDo(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"":                 "no command",
		"status":           "no lab is up",
		"cut h1":           "no lab is up",
		"up -n 0":          "lab of 0 hosts",
		"up -colour green": "not defined",
	} {
		err := run(t.Context(), append([]string{"-dir", dir}, strings.Fields(args)...), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("shoallab %s: error %v, want %q", args, err, want)
		}
	}
}

func TestDownWithoutALabIsNoError(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-dir", t.TempDir(), "down"}, &out); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "no lab is up") {
		t.Errorf("it said %q", &out)
	}
}

package gossip

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLibraryLinesKeepTheirLevel(t *testing.T) {
	for line, want := range map[string]struct {
		level slog.Level
		text  string
	}{
		"[DEBUG] memberlist: Stream connection":        {slog.LevelDebug, "Stream connection"},
		"[INFO] memberlist: Marking n1 as failed":      {slog.LevelInfo, "Marking n1 as failed"},
		"[WARN] memberlist: Refuting a dead message\n": {slog.LevelWarn, "Refuting a dead message"},
		"[ERR] memberlist: Decrypt packet failed":      {slog.LevelWarn, "Decrypt packet failed"},
		"[ERROR] memberlist: Failed to compress":       {slog.LevelWarn, "Failed to compress"},
		"[ERR] Failed to shutdown transport":           {slog.LevelWarn, "Failed to shutdown transport"},
		"Err: Could not set the deadline":              {slog.LevelWarn, "Err: Could not set the deadline"},
		"":                                             {slog.LevelWarn, ""},
	} {
		if level, text := split(line); level != want.level || text != want.text {
			t.Errorf("split(%q) = %v, %q, want %v, %q", line, level, text, want.level, want.text)
		}
	}
}

func TestLibraryLogDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})
		log := slog.NewLogLogger(newLibraryLog(slog.New(handler)), slog.LevelInfo)
		for i := range 10_000 {
			log.Printf("[ERR] memberlist: Decrypt packet failed: %d", i)
			log.Printf("[DEBUG] memberlist: chatter %d", i)
		}
		if got := strings.Count(out.String(), "\n"); got != logBurst {
			t.Errorf("%d lines, want %d", got, logBurst)
		}
		time.Sleep(logEvery)
		log.Print("[WARN] memberlist: later")
		want := fmt.Sprintf("level=WARN msg=\"gossip library\" text=later dropped=%d\n", 10_000-logBurst)
		if !strings.HasSuffix(out.String(), want) {
			t.Errorf("last line of\n%s\nshould be\n%s", out.String()[max(0, out.Len()-200):], want)
		}
	})
}

func TestLibraryLogKeepsAttributes(t *testing.T) {
	var out bytes.Buffer
	handler := newLibraryLog(slog.New(slog.NewTextHandler(&out, nil))).WithAttrs([]slog.Attr{slog.Int("a", 1)}).WithGroup("g")
	slog.NewLogLogger(handler, slog.LevelInfo).Print("[INFO] memberlist: x")
	if got := out.String(); !strings.Contains(got, "a=1") || !strings.Contains(got, "g.text=x") {
		t.Errorf("line is %q", got)
	}
}

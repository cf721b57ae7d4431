package gossip

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// One stranger who sends garbage must not fill the disk with log lines.
	logEvery = 10 * time.Second
	logBurst = 10
)

// libraryLog turns memberlist's lines, "[WARN] memberlist: text", into records
// of the level that they name.
type libraryLog struct {
	next    slog.Handler
	limit   *rate.Limiter
	dropped *atomic.Int64
}

func newLibraryLog(log *slog.Logger) slog.Handler {
	return libraryLog{log.Handler(), rate.NewLimiter(rate.Every(logEvery), logBurst), new(atomic.Int64)}
}

// Enabled implements slog.Handler: the level is known only from the text.
func (l libraryLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l libraryLog) Handle(ctx context.Context, record slog.Record) error {
	level, text := split(record.Message)
	if !l.next.Enabled(ctx, level) {
		return nil
	}
	if level >= slog.LevelInfo && !l.limit.AllowN(record.Time, 1) {
		l.dropped.Add(1)
		return nil
	}
	out := slog.NewRecord(record.Time, level, "gossip library", 0)
	out.AddAttrs(slog.String("text", text))
	if level >= slog.LevelInfo {
		if dropped := l.dropped.Swap(0); dropped > 0 {
			out.AddAttrs(slog.Int64("dropped", dropped))
		}
	}
	return l.next.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (l libraryLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.next = l.next.WithAttrs(attrs)
	return l
}

// WithGroup implements slog.Handler.
func (l libraryLog) WithGroup(name string) slog.Handler {
	l.next = l.next.WithGroup(name)
	return l
}

// split finds level and text of a line. memberlist calls an error what it gets
// over by itself: nobody must act, so it is a warning here.
func split(line string) (slog.Level, string) {
	level, rest := slog.LevelWarn, strings.TrimSpace(line)
	for prefix, named := range map[string]slog.Level{
		"[DEBUG] ": slog.LevelDebug, "[INFO] ": slog.LevelInfo,
		"[WARN] ": slog.LevelWarn, "[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn,
	} {
		if text, ok := strings.CutPrefix(rest, prefix); ok {
			level, rest = named, text
			break
		}
	}
	return level, strings.TrimPrefix(rest, "memberlist: ")
}

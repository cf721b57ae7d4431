package raftstore

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newLogger returns a logger for raft that writes to log.
func newLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(sink{log})
	return l
}

// sink passes raft's messages on. Leadership, and managers that come and go,
// are logged by the store in one line each, so raft's own account of them,
// which repeats with each call that fails, is for debugging only.
type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	l := slog.LevelDebug
	if level == hclog.Error && !aboutPeer(msg) {
		l = slog.LevelError
	}
	s.log.Log(context.Background(), l, "raft", append([]any{"event", msg}, args...)...)
}

func aboutPeer(msg string) bool {
	switch msg {
	case "failed to heartbeat to", "failed to appendEntries to", "failed to make requestVote RPC",
		"failed to pipeline appendEntries", "failed to start pipeline replication to",
		"peer has newer term, stopping replication", "failed to send snapshot to", "failed to install snapshot",
		"failed to get log", "failed to decode incoming command", "failed to flush response", "failed to accept connection":
		return true
	default:
		return false
	}
}

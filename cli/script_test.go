package cli

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"shoal/internal/node"
)

// TestMain lets scripts run this binary as shoal. Its daemon is the fake
// server, which ends when the node leaves its cluster.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shoal": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(Run(ctx, Config{Args: os.Args[1:], Version: "1.2.3", Daemon: fakeDaemon}))
	}})
}

func fakeDaemon(ctx context.Context, c node.Config) error {
	if os.Getenv("FAKE_DAEMON_BROKEN") != "" {
		c.Log.Error("cannot start", "state", c.StateDir, "engine", c.Engine, "gossip", c.GossipPort, "listen", c.ListenAddr, "advertise", c.AdvertiseAddr)
		return os.ErrPermission
	}
	f, l, err := listenFake(c.Socket)
	if err != nil {
		return err
	}
	f.addService("service1xxxxxxxxxxxxxxxxx", "web", 2)
	f.why["web"] = `{"Kind":"service","ID":"service1xxxxxxxxxxxxxxxxx","Name":"web","State":"running","Cause":"all is well","Evidence":["2 of 2 tasks run"],"Fix":""}`
	c.Log.Info("up", "socket", c.Socket)
	return f.serve(ctx, l)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(string) (bool, error) {
			_, err := os.Stat("/run/systemd/system")
			return err == nil, nil // the only condition is "systemd"
		},
		Setup: func(e *testscript.Env) error {
			// The work directory's own path is too long for a socket.
			dir, err := os.MkdirTemp("", "shoal-script") //nolint:usetesting // as above
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("SOCK", filepath.Join(dir, "s.sock"))
			e.Setenv("SHOAL_HOST", "unix://"+filepath.Join(dir, "s.sock"))
			e.Setenv("STATE", filepath.Join(dir, "state"))
			return nil
		},
	})
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"shoal/internal/node"
)

// Defaults of the daemon; the flags of init and join that start one share them.
const (
	defaultStateDir   = "/var/lib/shoal"
	defaultEngine     = "unix:///var/run/docker.sock"
	defaultListenAddr = "0.0.0.0:2377"
	defaultGossipPort = 7946
)

// daemonFlags are the flags of `shoal daemon`.
type daemonFlags struct {
	stateDir, socket, engine   string
	listen, advertise, metrics string
	gossipPort                 int64
	logFormat, logLevel        string
}

func (s *shell) daemonCommand() *command {
	d := daemonFlags{
		stateDir: defaultStateDir, engine: defaultEngine, listen: defaultListenAddr,
		gossipPort: defaultGossipPort, logFormat: "text", logLevel: "info",
	}
	f := &flags{}
	d.local(f)
	f.text(&d.socket, "socket", "Path of the unix socket of the API").def("/run/shoal/shoal.sock")
	f.add(&address{p: &d.listen, port: "2377"}, "address", "listen-addr", "Address of the cluster listener (format: IP[:PORT])").def(defaultListenAddr)
	f.add(&address{p: &d.advertise, port: "2377", asGiven: true}, "address", "advertise-addr", "Address other nodes reach this one at (format: IP|INTERFACE[:PORT])")
	f.choice(&d.logFormat, "log-format", "Form of the log", "text", "json").def("text")
	f.choice(&d.logLevel, "log-level", "Least severe messages to log", "debug", "info", "warn", "error").def("info")
	f.add(&address{p: &d.metrics}, "address", "metrics-addr", "Serve /metrics, /healthz and /readyz over HTTP at this address (format: IP:PORT)")
	return &command{
		name: "daemon", operands: "[OPTIONS]", short: "Run the node; init and join start it when it is not running",
		long:  "Runs in the foreground until SIGTERM or SIGINT. Containers keep running when it ends.",
		flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error { return s.runDaemon(ctx, d, f) },
	}
}

// local adds the flags that init and join have too, for the daemon they start.
func (d *daemonFlags) local(f *flags) {
	f.text(&d.stateDir, "state-dir", "Directory of the node's state").def(defaultStateDir)
	f.text(&d.engine, "engine", "Docker Engine that runs the containers (format: unix:///PATH)").def(defaultEngine)
	f.add(&integer{p: &d.gossipPort, min: 1, max: math.MaxUint16}, "port", "gossip-port", "Port of the gossip between nodes, tcp and udp").def(strconv.Itoa(defaultGossipPort))
}

func (d *daemonFlags) check() error {
	if !filepath.IsAbs(d.stateDir) {
		return badFlag("state-dir", d.stateDir, "must be an absolute path")
	}
	if d.socket != "" && !filepath.IsAbs(d.socket) {
		return badFlag("socket", d.socket, "must be an absolute path")
	}
	const longest = 107 // sun_path of unix(7), less the closing zero
	if len(d.socket) > longest {
		return badFlag("socket", d.socket, "must be at most %d bytes long", longest)
	}
	if path, ok := strings.CutPrefix(d.engine, "unix://"); !ok || !filepath.IsAbs(path) || path == "/" {
		return badFlag("engine", d.engine, "must be unix:///PATH")
	}
	return nil
}

func (s *shell) runDaemon(ctx context.Context, d daemonFlags, f *flags) error {
	if d.socket == "" {
		d.socket = strings.TrimPrefix(defaultHost, "unix://")
		if f.changed("socket") {
			return badFlag("socket", "", "must be an absolute path")
		}
	}
	if err := d.check(); err != nil {
		return err
	}
	if s.daemon == nil {
		return errors.New("this build of shoal has no daemon")
	}
	log, err := newLogger(s.err, d.logFormat, d.logLevel)
	if err != nil {
		return err
	}
	err = s.daemon(ctx, node.Config{
		StateDir: d.stateDir, Socket: d.socket, Engine: d.engine,
		ListenAddr: d.listen, AdvertiseAddr: d.advertise, GossipPort: int(d.gossipPort),
		MetricsAddr: d.metrics, Version: s.version, Log: log,
	})
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil // asked to stop, and did
	}
	return err
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: %w", level, err)
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// address is IP, INTERFACE, HOST or any of them with a port.
type address struct {
	p       *string
	port    string // added where none is given; "" makes the port mandatory
	asGiven bool   // but do not add it: the daemon knows its port better
}

// Set implements value.
func (a *address) Set(s string) error {
	bad := errors.New(`must be ADDRESS or ADDRESS:PORT, for example "192.0.2.7:2377"`)
	if a.port == "" {
		bad = errors.New(`must be ADDRESS:PORT, for example "192.0.2.7:9323"`)
	}
	h, port, err := net.SplitHostPort(s)
	if err != nil {
		if a.port == "" {
			return bad
		}
		h, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), a.port
		if strings.Contains(h, ":") && net.ParseIP(h) == nil {
			return bad
		}
	}
	if port == "" && a.port != "" {
		port = a.port
	}
	if strings.ContainsAny(h, " /\t\n") || h == "" && a.port != "" {
		return bad
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %q must be a number from 1 to 65535", port)
	}
	*a.p = net.JoinHostPort(h, port)
	if a.asGiven {
		*a.p = s
	}
	return nil
}

func (a *address) String() string {
	if a.p == nil {
		return ""
	}
	return *a.p
}

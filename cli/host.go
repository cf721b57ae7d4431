package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/docker/docker/client"
)

// defaultHost is the socket of the daemon on this machine.
const defaultHost = "unix:///run/shoal/shoal.sock"

// host says which daemon to speak to.
type host struct {
	addr          string
	ca, cert, key string
}

func (s *shell) globalFlags() *flags {
	f := &flags{}
	f.text(&s.host.addr, "host,H", "Daemon to speak to: unix://PATH, or tcp://HOST:PORT with the three TLS flags; also SHOAL_HOST").def(defaultHost)
	f.text(&s.host.ca, "tlscacert", "Trust certificates signed by the CA in this file")
	f.text(&s.host.cert, "tlscert", "Client certificate file")
	f.text(&s.host.key, "tlskey", "Client key file")
	f.toggle(&s.showVersion, "version,v", "Print the version of this program and exit")
	return f
}

// resolve fills in the environment and the default, and refuses what cannot be
// an address.
func (h host) resolve(getenv func(string) string) (host, error) {
	name := "--host"
	if h.addr == "" {
		h.addr, name = getenv("SHOAL_HOST"), "SHOAL_HOST"
	}
	if h.addr == "" {
		h.addr = defaultHost
	}
	bad := &exitError{code: codeFlag, err: fmt.Errorf("invalid argument %q for %q flag: must be unix:///PATH or tcp://HOST:PORT", h.addr, "-H, "+name)}
	u, err := url.Parse(h.addr)
	if err != nil {
		return h, bad
	}
	switch {
	case u.Scheme == "unix" && strings.HasPrefix(h.addr, "unix:///") && u.Path != "/":
		if h.ca != "" || h.cert != "" || h.key != "" {
			return h, errors.New("--tlscacert, --tlscert and --tlskey are for tcp:// hosts; this one is " + h.addr)
		}
		return h, nil
	case u.Scheme == "tcp" && u.Hostname() != "" && u.Port() != "" && strings.Trim(u.Path, "/") == "":
		return h, h.checkTLS()
	}
	return h, bad
}

func (h host) checkTLS() error {
	if h.ca == "" || h.cert == "" || h.key == "" {
		return errors.New("a tcp:// host needs all of --tlscacert, --tlscert and --tlskey")
	}
	for _, f := range [][2]string{{"tlscacert", h.ca}, {"tlscert", h.cert}, {"tlskey", h.key}} {
		if _, err := os.Stat(f[1]); err != nil {
			return badFlag(f[0], f[1], "must be a readable file: %v", err)
		}
	}
	return nil
}

// socket is the path of a unix host, "" for others.
func (h host) socket() string {
	path, _ := strings.CutPrefix(h.addr, "unix://")
	if path == h.addr {
		return ""
	}
	return path
}

// conn is a connection to the daemon's API.
type conn struct {
	api  *client.Client
	base string // for requests beside Docker's API
}

// connect makes the client on first use; it sends nothing yet.
func (s *shell) connect() (*client.Client, error) {
	if s.conn != nil {
		return s.conn.api, nil
	}
	h, err := s.host.resolve(s.getenv)
	if err != nil {
		return nil, err
	}
	opts := []client.Opt{client.WithHost(h.addr), client.WithAPIVersionNegotiation(), client.WithUserAgent("shoal/" + s.version)}
	base := "http://shoal"
	if h.socket() == "" {
		opts = append(opts, client.WithTLSClientConfig(h.ca, h.cert, h.key))
		base = "https://" + strings.TrimPrefix(h.addr, "tcp://")
	}
	api, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", h.addr, err)
	}
	s.conn = &conn{api: api, base: base}
	return api, nil
}

// getJSON asks for something that Docker's API does not have.
func (s *shell) getJSON(ctx context.Context, path string, into any) error {
	return s.callJSON(ctx, http.MethodGet, path, nil, into)
}

// postJSON sends something that Docker's API does not have.
func (s *shell) postJSON(ctx context.Context, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.callJSON(ctx, http.MethodPost, path, bytes.NewReader(data), into)
}

func (s *shell) callJSON(ctx context.Context, method, path string, content io.Reader, into any) error {
	return s.callWith(ctx, method, path, http.Header{}, content, into)
}

func (s *shell) callWith(ctx context.Context, method, path string, header http.Header, content io.Reader, into any) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.conn.base+path, content)
	if err != nil {
		return err
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	resp, err := api.HTTPClient().Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("ask %s: %w: %w", api.DaemonHost(), errUnreachable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20)) // 4 MiB: far above any answer
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return daemonError(resp.StatusCode, body)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	return nil
}

func daemonError(status int, body []byte) error {
	var m struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &m) == nil && m.Message != "" {
		return fmt.Errorf("Error response from daemon: %s", m.Message)
	}
	return fmt.Errorf("Error response from daemon: %s", http.StatusText(status))
}

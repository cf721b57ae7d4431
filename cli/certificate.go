package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"shoal/internal/pki"
)

func (s *shell) certificateCommand() *command {
	return &command{
		name: "certificate", operands: "NAME [DIRECTORY]", short: "Make a certificate for using the API over TCP",
		long: "Writes ca.pem, cert.pem and key.pem into DIRECTORY (default: one called NAME below the current one).\n" +
			"Whoever holds them may do on every manager what its socket's owner may. The key is made here and stays here.",
		flags: &flags{}, min: 1, max: 2,
		run: func(ctx context.Context, args []string) error {
			dir := args[0]
			if len(args) == 2 {
				dir = args[1]
			}
			return s.runCertificate(ctx, args[0], dir)
		},
	}
}

func (s *shell) runCertificate(ctx context.Context, name, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "key.pem")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists: remove it, or name another directory", filepath.Join(dir, "key.pem"))
	}
	keyPEM, csrPEM, err := pki.NewKeyAndCSR()
	if err != nil {
		return err
	}
	var answer struct{ Certificate, RootCert []byte }
	if err := s.postJSON(ctx, "/shoal/v1/certificates", map[string]any{"Name": name, "CSR": csrPEM}, &answer); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for file, data := range map[string][]byte{"ca.pem": answer.RootCert, "cert.pem": answer.Certificate, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			return err
		}
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	info, err := api.Info(ctx)
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(info.Swarm.NodeAddr, "2377")
	for _, m := range info.Swarm.RemoteManagers {
		if m.NodeID == info.Swarm.NodeID {
			addr = m.Addr
		}
	}
	_, err = fmt.Fprintf(s.out, "Written to %s. Use it with:\n\n    docker -H tcp://%s --tlsverify --tlscacert %[1]s/ca.pem --tlscert %[1]s/cert.pem --tlskey %[1]s/key.pem node ls\n", dir, addr)
	return err
}

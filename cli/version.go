package cli

import (
	"context"
	"fmt"
	"runtime"

	"github.com/docker/docker/api/types"

	"shoal/cli/format"
)

// versions are the two ends.
type versions struct {
	Client clientVersion
	Server *types.Version
}

type clientVersion struct {
	Version, APIVersion, GoVersion, Os, Arch string
}

func (s *shell) versionCommand() *command {
	var (
		form string
		f    = &flags{}
	)
	f.add((*templateValue)(&form), "string", "format,f", "Print with TEMPLATE (Go template) or \"json\"")
	return &command{
		name: "version", operands: "[OPTIONS]", short: "Show the versions of shoal and of the daemon", flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error { return s.runVersion(ctx, form) },
	}
}

func (s *shell) runVersion(ctx context.Context, form string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	v := versions{Client: clientVersion{Version: s.version, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}}
	server, serverErr := api.ServerVersion(ctx)
	if serverErr == nil {
		v.Server = &server
	}
	v.Client.APIVersion = api.ClientVersion()
	if form != "" {
		if err := format.Write(s.out, format.Table{}, form, false, []versions{v}); err != nil {
			return err
		}
		return serverErr
	}
	c := v.Client
	fmt.Fprintf(s.out, "Client:\n Version:      %s\n API version:  %s\n Go version:   %s\n OS/Arch:      %s/%s\n", c.Version, c.APIVersion, c.GoVersion, c.Os, c.Arch)
	if v.Server != nil {
		fmt.Fprintf(s.out, "\nServer:\n Version:      %s\n API version:  %s (minimum version %s)\n Go version:   %s\n OS/Arch:      %s/%s\n",
			server.Version, server.APIVersion, server.MinAPIVersion, server.GoVersion, server.Os, server.Arch)
	}
	return serverErr
}

// Command shoal is a container cluster that speaks Docker: daemon and command
// line in one program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"shoal/cli"
	"shoal/internal/node"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills at once
	return cli.Run(ctx, cli.Config{Args: os.Args[1:], Version: version, Daemon: node.Run})
}

// The program that test containers run: what engine.Fake pretends to run.
package main

import (
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
)

// ready is where the program says that it is; the second one is for containers
// whose root is read-only.
var ready = []string{"/ready", "/tmp/ready"}

func main() {
	args := os.Args[1:]
	if i := slices.Index(args, "exit"); i >= 0 && i+1 < len(args) {
		code, _ := strconv.Atoi(args[i+1])
		os.Exit(code)
	}
	if slices.Contains(args, "check") { // a health check: check ok, check bad
		for _, path := range ready {
			if _, err := os.Stat(path); err == nil && slices.Contains(args, "ok") {
				return
			}
		}
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for _, path := range ready { // only now a signal is heeded
		if os.WriteFile(path, nil, 0o600) == nil {
			break
		}
	}
	for {
		<-stop
		if !slices.Contains(args, "ignore") {
			return
		}
	}
}

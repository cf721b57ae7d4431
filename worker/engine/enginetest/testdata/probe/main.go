// The program that test containers run: what engine.Fake pretends to run.
package main

import (
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
)

func main() {
	args := os.Args[1:]
	if i := slices.Index(args, "exit"); i >= 0 && i+1 < len(args) {
		code, _ := strconv.Atoi(args[i+1])
		os.Exit(code)
	}
	if slices.Contains(args, "check") { // a health check: check ok, check bad
		if slices.Contains(args, "ok") {
			return
		}
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for {
		<-stop
		if !slices.Contains(args, "ignore") {
			return
		}
	}
}

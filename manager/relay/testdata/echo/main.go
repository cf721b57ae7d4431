// The program that test containers run: it says a line and waits, or copies
// standard input to standard output and ends with 3.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "cat" {
		_, _ = io.Copy(os.Stdout, os.Stdin)
		fmt.Fprint(os.Stderr, "done")
		os.Exit(3)
	}
	fmt.Println("begun")
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		_, _ = io.Copy(os.Stdout, os.Stdin)
		return
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}

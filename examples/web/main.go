// Web is the program of shoal's sample image: a web server that tells which
// container answered, and small commands that fail in known ways.
//
// Called under the name of one of its commands, as in `sleep 10`, it does
// that: the image is FROM scratch and has no other program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: web [COMMAND]

  serve              answer HTTP on $ADDR (:8080) until SIGTERM; the default.
                     $UDP_ADDR: echo datagrams there too, $ECHO_ADDR: lines over
                     TCP; each after "HOSTNAME to CLIENT: ". $SINK_ADDR: count the
                     bytes of a stream. The last two may be several addresses
  sleep SECONDS      wait, or end at SIGTERM
  stubborn           wait, and ignore SIGTERM
  exit CODE          end at once with CODE
  crash              panic
  eat MEBIBYTES      take memory, then wait
  echo WORD...       print the words
  talk BYTES [LINES] print lines of that length until stopped, as fast as it goes;
                     or so many, then wait
  cat FILE...        print the files
  check URL          succeed when URL answers 2xx, for health checks
  get URL [COUNT]    print what URL answers, each time over a new connection;
                     fail unless that is 2xx
  lookup NAME [TYPE] print the addresses of NAME, sorted, as /etc/resolv.conf has
                     them looked up; TYPE is A or AAAA (both), or PTR for the
                     names of an address
  send ADDR SECONDS  stream to a sink; print the bytes a second that it has got
  knock ADDR SECONDS connect to an echo, one connection after the other; print
                     how many were answered, failed and were slow
  watch name NAME    print the addresses of NAME as they come, with the time
  watch echo ADDR    the same of those who answer at an echo
`

func main() {
	args := os.Args[1:]
	if name := filepath.Base(os.Args[0]); name != "web" {
		args = append([]string{name}, args...)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, args, os.Stdout, os.Stderr))
}

// run does what args say and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	name, rest := "serve", args
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	first := ""
	if len(rest) > 0 {
		first = rest[0]
	}
	var err error
	switch name {
	case "serve":
		err = serve(ctx)
	case "sleep":
		err = sleep(ctx, first)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		err = sleep(context.WithoutCancel(ctx), "1000000")
	case "exit":
		return exitCode(first, stderr)
	case "crash":
		panic("crash, as asked")
	case "eat":
		err = eat(ctx, first)
	case "echo":
		err = echo(stdout, rest)
	case "talk":
		err = talk(ctx, stdout, rest)
	case "cat":
		err = cat(stdout, rest)
	case "check":
		err = check(ctx, first)
	case "get":
		err = get(ctx, stdout, rest)
	case "lookup":
		err = lookup(ctx, stdout, rest)
	default:
		measure, ok := measures()[name]
		if !ok {
			fmt.Fprint(stderr, usage)
			return 2
		}
		err = measure(ctx, stdout, rest)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// measures are the commands that benchmarks use.
func measures() map[string]func(context.Context, io.Writer, []string) error {
	return map[string]func(context.Context, io.Writer, []string) error{"send": send, "knock": knock, "watch": watch}
}

// sleep waits, and ends like a program without a handler when asked to stop.
func sleep(ctx context.Context, seconds string) error {
	d, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return fmt.Errorf("seconds %q: %w", seconds, err)
	}
	select {
	case <-time.After(time.Duration(d * float64(time.Second))):
	case <-ctx.Done():
	}
	return nil
}

func exitCode(code string, stderr io.Writer) int {
	n, err := strconv.Atoi(code)
	if err != nil {
		fmt.Fprintf(stderr, "exit code %q: %v\n", code, err)
		return 2
	}
	return n
}

func eat(ctx context.Context, mebibytes string) error {
	n, err := strconv.Atoi(mebibytes)
	if err != nil || n < 0 {
		return fmt.Errorf("mebibytes %q: want a number", mebibytes)
	}
	memory := make([]byte, n<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1 // a page is taken when it is written to
	}
	<-ctx.Done()
	return nil
}

func echo(w io.Writer, words []string) error {
	for _, word := range words {
		if _, err := fmt.Fprintln(w, word); err != nil {
			return err
		}
	}
	return nil
}

// talk numbers its lines, so that a missing one is seen.
func talk(ctx context.Context, w io.Writer, args []string) error {
	length, most := 0, math.MaxInt
	for i, into := range []*int{&length, &most} {
		if i < len(args) {
			n, err := strconv.Atoi(args[i])
			if err != nil {
				return fmt.Errorf("%q: want a number: %w", args[i], err)
			}
			*into = n
		}
	}
	if length < 12 {
		return fmt.Errorf("%q: want BYTES, from 12, and perhaps LINES", args)
	}
	line := []byte(strings.Repeat("x", length-1) + "\n")
	for i := 0; i < most && ctx.Err() == nil; i++ {
		copy(line, fmt.Sprintf("%010d ", i))
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func cat(w io.Writer, files []string) error {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func check(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	return nil
}

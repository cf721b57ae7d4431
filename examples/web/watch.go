package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// watchEvery is how often watch asks: so late may what it prints be, times the
// number of those who share the answers of an echo.
const watchEvery = 10 * time.Millisecond

// watch asks again and again, and prints who has come into the answers, with
// the time in nanoseconds: of a name its addresses, of an echo who answers.
func watch(ctx context.Context, w io.Writer, args []string) error {
	if len(args) != 2 {
		return errors.New("want name NAME or echo ADDR")
	}
	ask := map[string]func(context.Context, string) []string{"name": addresses, "echo": echoer}[args[0]]
	if ask == nil {
		return fmt.Errorf("kind %q: want name or echo", args[0])
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	// What has left the answers may come back to those of a name; those of an
	// echo are one at a time, so nothing is known to have left them.
	for seen := map[string]bool{}; ; {
		found := ask(ctx, args[1])
		if args[0] == "name" {
			seen = keepOnly(seen, found)
		}
		for _, who := range found {
			if seen[who] {
				continue
			}
			seen[who] = true
			if _, err := fmt.Fprintln(w, who, time.Now().UnixNano()); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func keepOnly(seen map[string]bool, found []string) map[string]bool {
	kept := map[string]bool{}
	for _, who := range found {
		if seen[who] {
			kept[who] = true
		}
	}
	return kept
}

// addresses are those of a name, none while it is not known.
func addresses(ctx context.Context, name string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, err := (&net.Resolver{PreferGo: true}).LookupHost(ctx, name)
	if err != nil {
		return nil
	}
	return found
}

// echoer is who answers at an echo, nobody when it fails.
func echoer(ctx context.Context, addr string) []string {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return nil
	}
	if _, err := io.WriteString(conn, "who\n"); err != nil {
		return nil
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	who, _, found := strings.Cut(line, " to ")
	if err != nil || !found {
		return nil
	}
	return []string{who}
}

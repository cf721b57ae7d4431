package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long lookup and get wait: more than a resolver that has to
// try its second server, less than a test wants to wait.
const patience = 5 * time.Second

// lookup prints what the container's own resolver says of a name, sorted.
func lookup(ctx context.Context, w io.Writer, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("want NAME [TYPE]")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	typ := ""
	if len(args) == 2 {
		typ = strings.ToUpper(args[1])
	}
	var found []string
	var err error
	// PreferGo: what /etc/resolv.conf says, and nothing that a C library adds
	r := net.Resolver{PreferGo: true}
	switch network := map[string]string{"": "ip", "A": "ip4", "AAAA": "ip6"}[typ]; {
	case network != "":
		var addrs []net.IP
		addrs, err = r.LookupIP(ctx, network, args[0])
		for _, a := range addrs {
			found = append(found, a.String())
		}
	case typ == "PTR":
		found, err = r.LookupAddr(ctx, args[0])
	default:
		return fmt.Errorf("type %q: want A, AAAA or PTR", args[1])
	}
	if err != nil {
		return err
	}
	slices.Sort(found)
	return echo(w, slices.Compact(found))
}

// get prints what a URL answers, COUNT times, each over a connection of its own
// so that each can reach another task.
func get(ctx context.Context, w io.Writer, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("want URL [COUNT]")
	}
	count := 1
	if len(args) == 2 {
		var err error
		if count, err = strconv.Atoi(args[1]); err != nil || count < 1 {
			return fmt.Errorf("count %q: want a number from 1", args[1])
		}
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for range count {
		if err := fetch(ctx, client, w, args[0]); err != nil {
			return err
		}
	}
	return nil
}

func fetch(ctx context.Context, client *http.Client, w io.Writer, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

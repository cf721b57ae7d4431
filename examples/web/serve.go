package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// drainTime is how long open requests may take after SIGTERM: less than the
// 10 s after which an engine kills.
const drainTime = 8 * time.Second

// serve answers until ctx ends, then finishes the open requests.
func serve(ctx context.Context) error {
	addr := os.Getenv("ADDR")
	if addr == "" {
		addr = ":8080"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	stopEchoes, err := startEchoes()
	if err != nil {
		l.Close()
		return err
	}
	defer stopEchoes()
	server := &http.Server{Handler: handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = server.Shutdown(ctx)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

// handler is the site: / tells who answers, /healthz how it feels and PUT
// /healthz?ok=false how it shall feel, /sleep?d=1s takes its time.
func handler() http.Handler {
	var sick atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "hello from %s version %s to %s\n", host, version(), r.RemoteAddr)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "sick", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("PUT /healthz", func(w http.ResponseWriter, r *http.Request) {
		sick.Store(r.FormValue("ok") == "false")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /sleep", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("d"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case <-time.After(d):
			fmt.Fprintf(w, "slept %v\n", d)
		case <-r.Context().Done():
		}
	})
	return mux
}

func version() string {
	if v := os.Getenv("VERSION"); v != "" {
		return v
	}
	return "1"
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds the metrics being gathered at the same time; a scraper over it gets a 503.
const maxScrapes = 4

const index = `questdb-ilp-proxy

/livez    200 while the process is there
/readyz   200 when records can be delivered, else 503 and why not
/metrics  Prometheus metrics
/drain    POST: deliver what is left, and end
`

// newHandler returns what the server answers. With loopback it answers only to names of this machine.
func newHandler(opts Options, loopback bool) http.Handler {
	mux := http.NewServeMux()
	// A GET pattern takes HEAD too; the mux itself answers 405 with Allow to other methods.
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if opts.Ready != nil {
			if err := opts.Ready(); err != nil {
				writeText(w, http.StatusServiceUnavailable, err.Error()+"\n")
				return
			}
		}
		writeText(w, http.StatusOK, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(opts.Gatherer, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{opts.Logger},
		// One collector in trouble must not hide the others, least of all then.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	}))
	if opts.Drain != nil {
		mux.Handle("POST /drain", guard(opts.Token, loopback, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			opts.Drain()
			writeText(w, http.StatusAccepted, "ending\n")
		})))
	}
	if opts.Pprof {
		mux.Handle("GET /debug/pprof/", guard(opts.Token, loopback, profiles()))
	}
	if opts.Status != nil {
		mux.Handle("GET /{$}", opts.Status)
		mux.Handle("GET /status", opts.Status)
	} else {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
			writeText(w, http.StatusOK, index)
		})
	}

	return securityHeaders(newNames(opts, loopback).only(recoverPanics(opts.Logger, mux)))
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that is gone needs no answer
}

// securityHeaders sets what every answer has; a page that needs more allowed overrides it.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store") // yesterday's health is worse than none
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// recoverPanics makes a panic of a handler a 500 and a line in the log, with the stack.
func recoverPanics(logger *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tw := &trackingWriter{ResponseWriter: w}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler {
				// The pattern, not the path: no bytes from outside.
				logger.ErrorContext(r.Context(), "a handler of the admin server panicked; this is a bug, please report it",
					slog.String("pattern", r.Pattern), slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))
			}
			if v == http.ErrAbortHandler || tw.started {
				panic(http.ErrAbortHandler) // what was begun can't be taken back: break it off, so that nobody takes it for whole
			}
			writeText(w, http.StatusInternalServerError, "internal error; the log has more\n")
		}()
		next.ServeHTTP(tw, r)
	})
}

// trackingWriter knows whether the answer was begun.
type trackingWriter struct {
	http.ResponseWriter
	started bool
}

func (w *trackingWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackingWriter) Write(p []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *trackingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// scrapeLog is where promhttp reports metrics that could not be gathered or sent.
type scrapeLog struct{ logger *slog.Logger }

func (l scrapeLog) Println(v ...any) {
	level, msg := slog.LevelWarn, "metrics incomplete"
	for _, x := range v {
		if err, ok := x.(error); ok {
			if _, ok := errors.AsType[*net.OpError](err); ok {
				// Nothing is wrong here, and clients could fill the log with it.
				level, msg = slog.LevelDebug, "a client did not take all metrics"
			}
		}
	}
	l.logger.Log(context.Background(), level, msg, slog.String("error", strings.TrimSuffix(fmt.Sprintln(v...), "\n")))
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/executor"
)

// watchFlags are flags of all commands that run stages, for whoever watches them from outside.
type watchFlags struct {
	metricsAddr string
	eventLog    string
}

func (f *watchFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.metricsAddr, "metrics-addr", "", "serve metrics for Prometheus at http://HOST:PORT/metrics while the command runs; without a host on this machine only")
	fl.StringVar(&f.eventLog, "event-log", "", "file to write what ran when, and what went wrong, as JSON lines; a file that exists is replaced")
}

// start opens what the flags ask for and has rep feed it. The caller calls stop when the work is done, and before rep is closed.
func (f *watchFlags) start(rep *reporter) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	if f.eventLog != "" {
		l, err := openEventLog(f.eventLog)
		if err != nil {
			return nil, err
		}
		rep.events = slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
		stops = append(stops, func() {
			if err := l.close(); err != nil {
				rep.complain(fmt.Sprintf("--event-log: %v; the log is incomplete, the result is not affected", err))
			}
		})
	}
	if f.metricsAddr != "" {
		c := &collector{}
		s, err := serveMetrics(f.metricsAddr, c)
		if err != nil {
			stop()
			return nil, err
		}
		rep.metrics = c
		rep.Note("", "metrics at "+s.url)
		stops = append(stops, s.close)
	}
	return stop, nil
}

// Observe implements executor.Observer.
func (r *reporter) Observe(e *executor.Executor) {
	if r.metrics != nil {
		r.metrics.observe(e)
	}
}

// EventLog implements executor.EventLogger.
func (r *reporter) EventLog() *slog.Logger { return r.events }

// eventLog is a file that keeps the first error, as a logger tells no one.
type eventLog struct {
	f   *os.File
	mu  sync.Mutex
	err error
}

func openEventLog(path string) (*eventLog, error) {
	if path == "-" {
		return nil, usageError{errors.New("--event-log -: give the name of a file; for lines on standard error there is --progress json")}
	}
	f, err := os.Create(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("--event-log %s: the file cannot be made: %w", path, err)
	}
	return &eventLog{f: f}, nil
}

// Write is called with one line at a time, and writes it at once: the log is there for what goes wrong.
func (l *eventLog) Write(line []byte) (int, error) {
	n, err := l.f.Write(line)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err == nil {
			l.err = err
		}
	}
	return n, err
}

func (l *eventLog) close() error {
	err := l.f.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	return err
}

// metricsServer serves metrics until it is closed.
type metricsServer struct {
	url   string
	http  *http.Server
	ended chan struct{}
}

// serveMetrics listens at addr, on loopback if it names no host.
func serveMetrics(addr string, c prometheus.Collector) (*metricsServer, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return nil, usageError{fmt.Errorf("--metrics-addr %q: give HOST:PORT, or :PORT for this machine only; port 0 takes any that is free", addr)}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--metrics-addr %s: port %s is in use by another program; name another, or 0 for any that is free", addr, port)
	case err != nil:
		var oe *net.OpError
		if errors.As(err, &oe) {
			err = oe.Err
		}
		return nil, fmt.Errorf("--metrics-addr %s: %w", addr, err)
	}
	reg := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return nil, errors.Join(fmt.Errorf("--metrics-addr %s: %w", addr, err), l.Close())
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	s := &metricsServer{
		url: "http://" + l.Addr().String() + "/metrics", ended: make(chan struct{}),
		http: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second},
	}
	go func() {
		defer close(s.ended)
		_ = s.http.Serve(l) // until it is closed
	}()
	return s, nil
}

func (s *metricsServer) close() {
	_ = s.http.Close()
	<-s.ended
}

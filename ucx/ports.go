//go:build ucx && cgo

package ucx

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// portTime is how long UCX may look for a port.
const portTime = 10 * time.Second

// portRange is at which ports UCX listens; the zero portRange is any.
type portRange struct{ first, last int }

// overTCP reports whether UCX listens at TCP ports.
func overTCP(transports []string) bool {
	return slices.ContainsFunc(transports, func(t string) bool { return strings.HasPrefix(t, "tcp/") })
}

// portsOf returns the range that a context has, whoever has set it. UCX itself has read it before.
func portsOf(set map[string]string, transports []string) (r portRange) {
	if !overTCP(transports) {
		return portRange{} // nothing listens
	}
	text, said := os.LookupEnv("UCX_TCP_PORT_RANGE")
	if !said {
		text = set["TCP_PORT_RANGE"]
	}
	if n, _ := fmt.Sscanf(text, "%d-%d", &r.first, &r.last); n < 2 {
		r.last = r.first
	}
	return r
}

// listen makes a worker, which listens. UCX tries ports of a range at random until one is free, and for ever if none is.
func (c *Context) listen() (*worker, error) {
	if c.listens.last == 0 {
		return c.newWorker()
	}
	if !c.listens.free() {
		return nil, fmt.Errorf("ucx: none of the ports %d-%d is free", c.listens.first, c.listens.last)
	}
	type result struct {
		w   *worker
		err error
	}
	got := make(chan result)
	stop := make(chan struct{})
	go func() {
		w, err := c.newWorker()
		select {
		case got <- result{w, err}:
		case <-stop:
			if err == nil {
				w.close()
			}
		}
	}()
	timer := time.NewTimer(portTime)
	defer timer.Stop()
	select {
	case r := <-got:
		return r.w, r.err
	case <-timer.C:
		close(stop) // others have taken the last port at this moment
		return nil, fmt.Errorf("ucx: UCX finds no port in %v that is free, of %d-%d", portTime, c.listens.first, c.listens.last)
	}
}

// free reports whether there is a port that UCX could take. Like UCX it takes none where a connection that has ended still is.
func (r portRange) free() bool {
	for port := r.first; port <= r.last; port++ {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return true // what is wrong is not the port
		}
		err = unix.Bind(s, &unix.SockaddrInet4{Port: port})
		_ = unix.Close(s)
		if !errors.Is(err, unix.EADDRINUSE) {
			return true
		}
	}
	return false
}

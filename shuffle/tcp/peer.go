package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// peer is the link to one rank. Two goroutines serve it: one reads at all times, so that answers never wait
// behind data and the end of the link is seen at once; one writes.
type peer struct {
	*link.Link
	t    *Transport
	rank int
	conn net.Conn // the link, maybe encrypted
	raw  rawConn  // what is underneath
	addr string
	work chan struct{} // the writer has something to do
	stop chan struct{} // the reader has ended

	// What follows is guarded by the lock of the Hub.
	sending   [shuffle.MaxInFlight]walk // of the payload of Out(n)
	receiving [shuffle.MaxInFlight]walk // of that of In(n); the reader moves it without the lock
	writing   bool                      // the writer is busy with what it collected last
}

// walk is how far a payload was written or read.
type walk struct {
	places
	left int64 // bytes
}

func newPeer(t *Transport, rank int, conn net.Conn, credit int) *peer {
	p := &peer{
		t: t, rank: rank, conn: conn, raw: under(conn), addr: conn.RemoteAddr().String(),
		work: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	p.Link = t.hub.Add(rank, credit, func() { link.Wake(p.work) })
	return p
}

func (p *peer) sent(n uint64) *walk { return &p.sending[n%shuffle.MaxInFlight] }
func (p *peer) read(n uint64) *walk { return &p.receiving[n%shuffle.MaxInFlight] }

// run serves the link until it ends.
func (p *peer) run() {
	writer := make(chan error, 1)
	go func() {
		err := p.write()
		if err != nil {
			// What the peer said before the link broke can still be read, but not for ever.
			_ = p.raw.SetReadDeadline(time.Now().Add(p.t.opts.LinkTimeout))
		}
		writer <- err
	}()
	err := p.listen()
	p.cut()
	close(p.stop)
	werr := <-writer
	if werr != nil && !errors.Is(werr, net.ErrClosed) && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errEOF)) {
		err = werr // it came first and says more
	}
	p.end(plain(err))
}

// cut ends the connection, and with it what either goroutine waits for. Closing what is underneath takes no
// time, whatever the encryption would like to say.
func (p *peer) cut() { _ = p.raw.Close() }

// end releases everything and reports that the peer is down. Both goroutines have ended.
func (p *peer) end(cause error) {
	h := p.t.hub
	var drop []*mem.Buffer
	h.Lock()
	drop = p.Drain(drop)
	h.Unlock()
	link.ReleaseAll(drop) // before the event that says so
	h.Lock()
	p.Down(fmt.Errorf("tcp: rank %d lost rank %d at %s: %w", h.Rank(), p.rank, p.addr, cause))
	h.Unlock()
}

var (
	// errBye is the reason for which a link ends when the peer has closed its endpoint.
	errBye = fmt.Errorf("it closed its endpoint: %w", shuffle.ErrClosed)
	errEOF = fmt.Errorf("the connection ended without a goodbye, as when a process dies: %w", io.ErrUnexpectedEOF)
)

package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// peer is the link to one rank. Two goroutines serve it: one reads at all times, so that answers never wait
// behind data and the end of the link is seen at once; one writes. Messages are numbered from 1 in each
// direction; message n is at place n mod MaxInFlight of its ring, because no more than that are ever alive.
type peer struct {
	t    *Transport
	rank int
	conn net.Conn // the link, maybe encrypted
	raw  rawConn  // what is underneath
	addr string
	work chan struct{} // the writer has something to do
	stop chan struct{} // the reader has ended

	gone bool  // EventPeerDown is in the inbox, or was, or is about to be
	err  error // why

	// Sending: reported <= acked <= paying <= announced <= posted.
	ring      [shuffle.MaxInFlight]outgoing
	posted    uint64        // by the caller
	batch     uint64        // of those, in the call of Post that runs
	announced uint64        // whose header was written, or is being
	paying    uint64        // up to which no payload is left to be written
	seen      uint64        // that the peer says its caller took
	acked     uint64        // for which EventSent is in the inbox, or was
	reported  uint64        // for which EventSent was polled
	credit    int           // bytes of headers that the peer has room for
	writing   bool          // the writer is busy with what it collected last
	leaving   bool          // the peer takes no more messages
	left      bool          // the peer knows that this rank takes no more
	paid      []*mem.Buffer // to be released when the writer has written what it collected

	// Receiving: taken <= delivered <= received.
	rx        [shuffle.MaxInFlight]incoming
	received  uint64          // whose header has arrived
	looked    uint64          // up to which no payload waits to be offered
	offering  uint64          // offered and not answered; 0 if none
	delivered uint64          // in the inbox, or polled
	taken     uint64          // polled
	told      uint64          // of which the peer knows that they were taken
	room      int             // bytes of headers that the peer may still send
	answers   []frame         // to offers, not yet written
	headers   headerPool      // memory of headers
	lists     [][]*mem.Buffer // memory of lists of buffers
}

// outgoing is a message that this rank sends.
type outgoing struct {
	cookie  uint64
	frame   []byte // frame header and header, kept for the next message
	cost    int
	payload []*mem.Buffer // until the last byte of it is written
	size    int64
	written places
	left    int64 // bytes of payload not handed to the writer
	state   answerState
}

// answerState is what was answered to an offer.
type answerState uint8

const (
	unanswered answerState = iota
	accepted
	refused
)

// incoming is a message that this rank receives.
type incoming struct {
	header   []byte
	size     int64
	payload  []*mem.Buffer // once accepted; the reader fills it without the lock
	read     places
	left     int64 // bytes of payload that have not arrived
	state    answerState
	complete bool
}

func newPeer(t *Transport, rank int, conn net.Conn, credit int) *peer {
	p := &peer{
		t: t, rank: rank, conn: conn, raw: under(conn), addr: conn.RemoteAddr().String(), credit: credit,
		work: make(chan struct{}, 1), stop: make(chan struct{}), room: t.opts.window(),
	}
	p.headers.limit = 2 * p.room
	return p
}

func (p *peer) out(n uint64) *outgoing { return &p.ring[n%shuffle.MaxInFlight] }
func (p *peer) in(n uint64) *incoming  { return &p.rx[n%shuffle.MaxInFlight] }

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
	err := p.read()
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
	t := p.t
	var drop []*mem.Buffer
	t.mu.Lock()
	for i := range p.ring {
		m := &p.ring[i]
		drop = append(drop, m.payload...)
		m.payload = nil
	}
	drop = append(drop, p.paid...)
	p.paid = nil
	for n := p.delivered + 1; n <= p.received; n++ {
		drop = append(drop, p.in(n).payload...)
	}
	p.gone, p.offering, p.answers = true, 0, nil
	t.mu.Unlock()
	releaseAll(drop) // before the event that says so
	t.mu.Lock()
	p.err = fmt.Errorf("tcp: rank %d lost rank %d at %s: %w", t.rank, p.rank, p.addr, cause)
	if !t.closed {
		t.inbox.push(note{kind: shuffle.EventPeerDown, peer: p.rank})
	}
	t.mu.Unlock()
	t.signal()
}

var (
	// errBye is the reason for which a link ends when the peer has closed its endpoint.
	errBye = fmt.Errorf("it closed its endpoint: %w", shuffle.ErrClosed)
	errEOF = fmt.Errorf("the connection ended without a goodbye, as when a process dies: %w", io.ErrUnexpectedEOF)
)

package world

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection: what has arrived here, and what is under way to here. Its lock is the network's.
type conn struct {
	n             *network
	local, remote *host
	laddr, raddr  net.Addr
	peer          *conn

	more     sync.Cond // anything below has changed
	buf      []byte    // arrived, not yet read
	flight   []segment // to here, in order
	underWay int       // bytes in flight
	timer    *time.Timer
	over     bool  // all has arrived that ever will
	closed   bool  // by its owner
	shut     bool  // its owner writes no more
	err      error // it broke

	readBy, writeBy time.Time
	timeout         time.Duration // how long its path may be cut
}

// segment is bytes under way.
type segment struct {
	at   time.Time // when it arrives
	data []byte
	last bool // nothing comes after it
}

// fail breaks this end. The lock is held.
func (c *conn) fail(err error) {
	if c.err != nil || c.closed {
		return
	}
	c.err = err
	c.forget()
}

// forget ends what is under way to this end, which is of no use any more. The lock is held.
func (c *conn) forget() {
	c.flight, c.underWay = nil, 0
	if c.timer != nil {
		c.timer.Stop()
	}
	at := slices.Index(c.local.conns, c)
	if at >= 0 {
		c.local.conns = slices.Delete(c.local.conns, at, at+1)
	}
	c.more.Broadcast()
	c.peer.more.Broadcast()
}

// launch sends data to this end. The lock is held.
func (c *conn) launch(data []byte, last bool) {
	if c.err != nil || c.closed {
		if !last && c.closed {
			// Nobody is there to read: the sender hears of that.
			sender := c.peer
			time.AfterFunc(c.n.late(c.n.path(c.local.rank, c.remote.rank)), func() {
				c.n.mu.Lock()
				defer c.n.mu.Unlock()
				sender.fail(syscall.ECONNRESET)
			})
		}
		return
	}
	at := time.Now().Add(c.n.late(c.n.path(c.local.rank, c.remote.rank)))
	if c.n.tick > 0 {
		// Not at.Truncate, which forgets the monotonic clock: what is under way would be late by as much as the wall clock is set back.
		at = c.n.start.Add((at.Sub(c.n.start)/c.n.tick + 1) * c.n.tick)
	}
	if n := len(c.flight); n > 0 && c.flight[n-1].at.After(at) {
		at = c.flight[n-1].at
	}
	c.flight = append(c.flight, segment{at, data, last})
	c.underWay += len(data)
	if len(c.flight) == 1 {
		c.arm()
	}
}

// arm sets the timer for the first segment in flight. The lock is held.
func (c *conn) arm() {
	d := time.Until(c.flight[0].at)
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.land)
	} else {
		c.timer.Reset(d)
	}
}

// land lets arrive what is due.
func (c *conn) land() {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	p, now := c.n.path(c.local.rank, c.remote.rank), time.Now()
	if now.Before(p.until) {
		late := p.until.Add(c.n.late(p))
		for i := range c.flight {
			if c.flight[i].at.Before(late) {
				c.flight[i].at = late
			}
		}
	}
	for len(c.flight) > 0 && !c.flight[0].at.After(now) && c.err == nil {
		s := c.flight[0]
		c.flight = c.flight[1:]
		c.underWay -= len(s.data)
		c.buf = append(c.buf, s.data...)
		c.over = c.over || s.last
		c.more.Broadcast()
		c.peer.more.Broadcast()
	}
	if len(c.flight) > 0 && c.err == nil {
		c.arm()
	}
}

// SetLinkTimeout says how long the path may be cut before the connection breaks.
func (c *conn) SetLinkTimeout(d time.Duration) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.timeout = d
	c.watch(c.n.path(c.local.rank, c.remote.rank))
	return nil
}

// watch breaks the connection when its path stays cut for too long. The lock is held.
func (c *conn) watch(p *path) {
	if c.timeout == 0 || !time.Now().Before(p.until) {
		return
	}
	since := p.since
	time.AfterFunc(time.Until(since.Add(c.timeout)), func() {
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		if p.since.Equal(since) && time.Now().Before(p.until) {
			c.fail(syscall.ETIMEDOUT)
		}
	})
}

// orphaned says that the other end is gone and cannot say so: what is sent to it is never acknowledged. The lock is held.
func (c *conn) orphaned() {
	if c.timeout == 0 {
		return
	}
	time.AfterFunc(c.timeout, func() {
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		c.fail(syscall.ETIMEDOUT)
	})
}

// wait waits for a change, or for a deadline to pass. The lock is held.
func (c *conn) wait(by time.Time) error {
	if by.IsZero() {
		c.more.Wait()
		return nil
	}
	d := time.Until(by)
	if d <= 0 {
		return os.ErrDeadlineExceeded
	}
	t := time.AfterFunc(d, func() {
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		c.more.Broadcast()
	})
	c.more.Wait()
	t.Stop()
	return nil
}

func (c *conn) Read(b []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
		case c.err != nil:
			return 0, failure("read", c.err)
		case len(c.buf) > 0 || len(b) == 0:
			n := copy(b, c.buf)
			c.buf = c.buf[n:]
			c.peer.more.Broadcast() // there is room
			return n, nil
		case c.over:
			return 0, io.EOF
		}
		if err := c.wait(c.readBy); err != nil {
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: err}
		}
	}
}

func (c *conn) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	written := 0
	for len(b) > 0 {
		room := c.n.window - c.peer.underWay - len(c.peer.buf)
		switch {
		case c.closed || c.shut:
			return written, &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}
		case c.err != nil:
			return written, failure("write", c.err)
		case c.local.dead:
			return written, failure("write", syscall.ENETDOWN)
		case room <= 0 && c.peer.err == nil && !c.peer.closed:
			if err := c.wait(c.writeBy); err != nil {
				return written, &net.OpError{Op: "write", Net: "tcp", Err: err}
			}
			continue
		}
		n := min(len(b), c.n.segment, max(room, 1))
		c.peer.launch(slices.Clone(b[:n]), false)
		written += n
		b = b[n:]
	}
	return written, nil
}

// CloseWrite says that nothing more is sent.
func (c *conn) CloseWrite() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if !c.shut && !c.closed && c.err == nil {
		c.shut = true
		c.peer.launch(nil, true)
	}
	return nil
}

// Close closes this end. What it has not read is lost, and the other end hears of that.
func (c *conn) Close() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return nil
	}
	if c.err == nil && !c.local.dead {
		if len(c.buf) > 0 || c.underWay > 0 {
			peer := c.peer
			time.AfterFunc(c.n.late(c.n.path(c.local.rank, c.remote.rank)), func() {
				c.n.mu.Lock()
				defer c.n.mu.Unlock()
				peer.fail(syscall.ECONNRESET)
			})
		} else if !c.shut {
			c.peer.launch(nil, true)
		}
	}
	c.closed = true
	c.forget()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.laddr }
func (c *conn) RemoteAddr() net.Addr { return c.raddr }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.readBy = t
	c.more.Broadcast()
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.writeBy = t
	c.more.Broadcast()
	return nil
}

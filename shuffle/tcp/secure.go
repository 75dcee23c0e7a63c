package tcp

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/dovetail-dedup/dovetail/internal/jobtls"
)

// identity makes the TLS configuration of a job's links.
func identity(secret []byte) (*tls.Config, error) { return jobtls.Config(secret, "shuffle/tcp") }

// secureConn is an encrypted link.
type secureConn struct {
	*tls.Conn
	under *cork
}

// secure encrypts a connection, of which the first bytes may have been read already.
func secure(ctx context.Context, c rawConn, first []byte, config *tls.Config, server bool) (*secureConn, error) {
	s := &secureConn{under: &cork{rawConn: c, first: first}}
	if server {
		s.Conn = tls.Server(s.under, config)
	} else {
		s.Conn = tls.Client(s.under, config)
	}
	return s, s.HandshakeContext(ctx)
}

// writeAll writes pieces, as few system calls as possible.
func (s *secureConn) writeAll(list [][]byte) error {
	s.under.begin()
	for _, b := range list {
		if _, err := s.Write(b); err != nil {
			return err
		}
	}
	return s.under.end()
}

// cork collects the records that crypto/tls writes one by one, of 16 KiB at most, between begin and end.
type cork struct {
	rawConn
	first []byte // to be read before what comes

	mu  sync.Mutex // the reader writes too: alerts
	on  bool
	buf []byte
}

// corkBytes is how much is collected; it has room for four full records.
const corkBytes = 68 << 10

func (c *cork) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.rawConn.Read(b)
}

func (c *cork) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

// Write collects b or writes it.
func (c *cork) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return c.rawConn.Write(b)
	}
	if len(c.buf)+len(b) > corkBytes {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if c.buf == nil {
		c.buf = make([]byte, 0, corkBytes)
	}
	c.buf = append(c.buf, b...) // a record fits: see corkBytes
	return len(b), nil
}

func (c *cork) flush() error {
	_, err := c.rawConn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *cork) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
	return c.flush()
}

func under(c net.Conn) rawConn {
	if s, ok := c.(*secureConn); ok {
		return s.under.rawConn
	}
	return c.(rawConn)
}

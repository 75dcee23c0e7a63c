package tcp

import (
	"context"
	"fmt"
	"net"
)

// Network makes the connections of a rank: [System], or one that goes through a proxy, or that a test can break. Its methods
// are safe for concurrent use.
//
// Connections need a CloseWrite method, as [net.TCPConn] has it. A connection with a method SetLinkTimeout(time.Duration) error
// is told how soon a cut link must be noticed.
type Network interface {
	// Listen opens a listener at host:port; port 0 means any that is free.
	Listen(addr string) (net.Listener, error)
	// Dial connects with host:port.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// System is the operating system's TCP.
var System Network = system{}

type system struct{}

func (system) Listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

func (system) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// rawConn is what is underneath a link.
type rawConn interface {
	net.Conn
	CloseWrite() error
}

func dialOn(ctx context.Context, n Network, addr string) (rawConn, error) {
	if n == nil {
		n = System
	}
	c, err := n.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return raw(c)
}

func accept(l net.Listener) (rawConn, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return raw(c)
}

// raw checks that a network makes connections that are of use here.
func raw(c net.Conn) (rawConn, error) {
	if r, ok := c.(rawConn); ok {
		return r, nil
	}
	_ = c.Close()
	return nil, fmt.Errorf("tcp: connections of type %T have no CloseWrite method", c)
}

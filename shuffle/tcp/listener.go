package tcp

import (
	"fmt"
	"net"
)

// Listener is the address of a rank, open before the other ranks know it: a launcher lets every rank listen,
// collects the addresses, and gives all of them to [Connect].
type Listener struct {
	l net.Listener
}

// Listen opens a listener at host:port; port 0 means any that is free. The error names the address.
func Listen(addr string) (*Listener, error) { return ListenOn(nil, addr) }

// ListenOn is [Listen] on another network; nil is the system's.
func ListenOn(n Network, addr string) (*Listener, error) {
	if n == nil {
		n = System
	}
	l, err := n.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("tcp: cannot listen at %s: %w", addr, err)
	}
	return &Listener{l: l}, nil
}

// Addr returns the address, host:port with the true port.
func (l *Listener) Addr() string { return l.l.Addr().String() }

// Close closes the listener. Connect does so itself, failed or not.
func (l *Listener) Close() error { return l.l.Close() }

package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
)

// What can carry data between ranks.
const (
	TransportAuto   = "auto"   // see [Fabric]
	TransportInproc = "inproc" // ranks in one process
	TransportTCP    = "tcp"
	TransportUCX    = "ucx"
)

// Transports lists them.
func Transports() []string {
	return []string{TransportAuto, TransportInproc, TransportTCP, TransportUCX}
}

// Fabric returns what carries data between ranks that are processes. They listen at ports of a range, over whatever listens at TCP ports;
// note, which may be nil, is given lines worth showing.
//
//   - TransportTCP is package shuffle/tcp: encrypted with TLS if the ranks have a secret.
//   - TransportUCX is package ucx, with everything that UCX finds. It is an error if there is no UCX here. Nothing is encrypted.
//   - TransportAuto is UCX where it is faster than TCP and no one can listen: if all ranks of a round have it and are on
//     one machine, so that it uses shared memory. It opens no port then. Else it is TCP: over plain TCP, UCX is no faster than our
//     own, and does not encrypt; and over RDMA it has not been run yet, so that who has it must ask for TransportUCX. The ranks
//     agree by what each tells the others: one without UCX has all use TCP.
//
// Ranks with TransportTCP and with TransportAuto can be in one job; all use TCP then.
func Fabric(name string, ports tcp.PortRange, note func(line string)) (executor.Fabric, error) {
	if note == nil {
		note = func(string) {}
	}
	network := ports.Network(tcp.System)
	switch name {
	case TransportTCP:
		return &chooser{tcp: executor.TCPFabric(network)}, nil
	case TransportUCX:
		f, err := newUCX(ports, note)
		if err != nil {
			return nil, fmt.Errorf("--transport %s: %w", TransportUCX, err)
		}
		return f, nil
	case TransportAuto, "":
		return &chooser{tcp: executor.TCPFabric(network), offer: offers(ports)}, nil
	case TransportInproc:
		return nil, errors.New("--transport inproc: ranks that are processes have no memory in common; give auto, tcp or ucx")
	}
	return nil, fmt.Errorf("--transport %q: must be %s", name, strings.Join(Transports(), ", "))
}

// offerer opens what a rank can offer besides TCP; nil if there is nothing.
type offerer func() offer

// offer is a port of UCX, and what decides whether it is used.
type offer interface {
	// text is what the others are told.
	text() string
	// suits reports whether all ranks should use what they offered; texts are by rank.
	suits(texts []string) bool
	connect(ctx context.Context, m executor.Meeting, texts []string) (shuffle.Transport, error)
	close() error
}

// chooser is the fabric of TransportAuto, and without an offer that of TransportTCP.
type chooser struct {
	tcp   executor.Fabric
	offer offerer
	name  atomic.Pointer[string] // of what the last round uses
}

func (c *chooser) Name() string {
	if p := c.name.Load(); p != nil {
		return *p
	}
	return c.tcp.Name()
}

func (c *chooser) Open(host string) (executor.Port, error) {
	p, err := c.tcp.Open(host)
	if err != nil {
		return nil, err
	}
	port := &choosing{c: c, tcp: p}
	if c.offer != nil {
		port.offer = c.offer()
	}
	return port, nil
}

// offerMark is between the address for TCP and what is offered.
const offerMark = "|"

// choosing is a port for TCP, and one for what is offered.
type choosing struct {
	c     *chooser
	tcp   executor.Port
	offer offer // nil without
}

func (p *choosing) Addr() string {
	addr := p.tcp.Addr()
	if p.offer != nil {
		addr += offerMark + p.offer.text()
	}
	return addr
}

// Listens is where TCP does: what is offered beside it opens no port.
func (p *choosing) Listens() string { return p.tcp.Listens() }

func (p *choosing) Close() error {
	err := p.tcp.Close()
	if p.offer != nil {
		err = errors.Join(err, p.offer.close())
	}
	return err
}

func (p *choosing) Connect(ctx context.Context, m executor.Meeting) (shuffle.Transport, error) {
	addrs, texts := make([]string, len(m.Addrs)), make([]string, len(m.Addrs))
	all := p.offer != nil && len(m.Addrs) > 1
	for r, a := range m.Addrs {
		var ok bool
		addrs[r], texts[r], ok = strings.Cut(a, offerMark)
		all = all && ok
		if _, _, err := net.SplitHostPort(addrs[r]); err != nil {
			_ = p.Close()
			return nil, fmt.Errorf("rank %d and rank %d cannot work together: %w: its address is %.60q; all ranks must use the same transport",
				m.Rank, r, shuffle.ErrMismatch, a)
		}
	}
	name := TransportTCP
	if all && p.offer.suits(texts) {
		name = TransportUCX
	}
	p.c.name.Store(&name)
	if name == TransportUCX {
		_ = p.tcp.Close()
		return p.offer.connect(ctx, m, texts)
	}
	if p.offer != nil {
		_ = p.offer.close()
	}
	m.Addrs = addrs
	return p.tcp.Connect(ctx, m)
}

package executor

import (
	"context"
	"net"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
)

// Fabric connects the ranks of a job for data. Its methods are safe for concurrent use.
type Fabric interface {
	// Open makes this rank reachable at host (a name or address without a port) for the ranks of one round.
	Open(host string) (Port, error)
	// Name says what carries the data, for the record; a fabric that chooses knows it when the first round has met.
	Name() string
}

// Port is where the other ranks of a round reach this one.
type Port interface {
	// Addr is what the others are told.
	Addr() string
	// Listens is the host:port at which this rank's machine can be called, by whomever.
	Listens() string
	// Connect connects with them and closes the port, whether or not it succeeds.
	Connect(ctx context.Context, m Meeting) (shuffle.Transport, error)
	// Close closes a port that is not connected.
	Close() error
}

// Meeting says who connects.
type Meeting struct {
	// Job, Epoch and Spec must be the same on all ranks; a rank with others is turned away.
	Job   string
	Epoch uint32
	Spec  string
	// Rank is this rank's place in Addrs, the addresses of all.
	Rank  int
	Addrs []string
	// Secret is that of [JobConfig]; connections are encrypted if there is one.
	Secret []byte
	// LinkTimeout is how soon a cut link must be noticed.
	LinkTimeout time.Duration
}

// TCPFabric returns the fabric that [JobConfig] has if none is given: [tcp.Connect] over a network, nil for the system's.
func TCPFabric(n tcp.Network) Fabric { return tcpFabric{n} }

// tcpFabric is [tcp.Connect] over a network.
type tcpFabric struct{ network tcp.Network }

func (f tcpFabric) Name() string { return "tcp" }

func (f tcpFabric) Open(host string) (Port, error) {
	l, err := tcp.ListenOn(f.network, net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	return tcpPort{l, f.network}, nil
}

type tcpPort struct {
	*tcp.Listener
	network tcp.Network
}

func (p tcpPort) Listens() string { return p.Addr() }

func (p tcpPort) Connect(ctx context.Context, m Meeting) (shuffle.Transport, error) {
	return tcp.Connect(ctx, tcp.Options{
		Job: m.Job, Rank: m.Rank, Addrs: m.Addrs, Listener: p.Listener, Network: p.network, Epoch: m.Epoch, Spec: m.Spec,
		Secret: m.Secret, ForceTLS: len(m.Secret) > 0, LinkTimeout: m.LinkTimeout,
	})
}

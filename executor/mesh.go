package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// mesh is what the ranks of one round exchange data over.
type mesh struct {
	port Port // until it is connected
	comm atomic.Pointer[shuffle.Communicator]
}

// meshTime is how long the ranks of a round may take to find each other. All are there already, so whoever is not found in some of the
// time in which a silent rank is lost is not to be reached.
func (j *Job) meshTime() time.Duration { return max(3*j.cfg.Silence, leastMeshTime) }

// leastMeshTime leaves time to a busy machine whose ranks may be silent for moments only.
const leastMeshTime = 5 * time.Second

// openMesh opens the address at which the other ranks of a round of so many find this one. A rank that is alone needs no network, and may
// have none any more.
func (j *Job) openMesh(size int) (*mesh, string, error) {
	if size == 1 {
		p := alonePort{}
		return &mesh{port: p}, p.Addr(), nil
	}
	p, err := j.cfg.Fabric.Open(j.dataHost())
	if err != nil {
		return nil, "", err
	}
	if err := j.mayListen(p.Listens()); err != nil {
		return nil, "", errors.Join(err, p.Close())
	}
	return &mesh{port: p}, p.Addr(), nil
}

// alonePort is that of a rank which is alone in its round.
type alonePort struct{}

func (alonePort) Addr() string    { return "alone" }
func (alonePort) Listens() string { return "" }
func (alonePort) Close() error    { return nil }

func (alonePort) Connect(context.Context, Meeting) (shuffle.Transport, error) {
	return inproc.New(1, inproc.Options{})[0], nil
}

// dataHost is where others reach this rank for data.
func (j *Job) dataHost() string {
	if j.cfg.DataHost != "" {
		return j.cfg.DataHost
	}
	addr := j.cfg.Root
	if j.cfg.Listener != nil {
		addr = j.cfg.Listener.Addr().String()
	}
	host, _, _ := net.SplitHostPort(addr)
	if host == "" && j.cfg.Size == 1 {
		return "127.0.0.1" // there is nobody to reach it, and may be no root
	}
	return host
}

// connect connects with the other ranks of a round.
func (m *mesh) connect(ctx context.Context, j *Job, key string, number, rank int, addrs []string) error {
	limit := j.meshTime()
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v", limit))
	defer stop()
	p := m.port
	m.port = nil // Connect closes it
	t, err := p.Connect(ctx, Meeting{
		Job: j.cfg.Name, Rank: rank, Addrs: addrs, Epoch: uint32(number), Spec: fmt.Sprintf("stage %s, round %d", key, number),
		Secret: j.cfg.Secret, LinkTimeout: j.cfg.Silence,
	})
	if err != nil {
		return err
	}
	c, err := shuffle.NewCommunicator(t)
	if err != nil {
		_ = t.Close()
		return err
	}
	m.comm.Store(c)
	return nil
}

// link connects this process's rank with the others of a round.
func (s *round) link(j *Job, m *mesh, addrs []string) error {
	if err := m.connect(s.sc.ctx, j, s.key, s.number, s.first, addrs); err != nil {
		return &meshError{err}
	}
	return s.connect([]*shuffle.Communicator{m.comm.Load()}, 0, s.e.epoch)
}

// verdict says how a round with that scope ended on rank, this one, as the root's machine is to know it, and why it broke. It is 0 if
// there is nothing to know: the round was told to end, or the stage has failed, with what went wrong on this rank.
func (r *stageRun) verdict(sc *scope, rank int) (rounds.Kind, error) {
	switch err := sc.reason(); {
	case err != nil && !broke(err, rank):
		r.fail(err)
		return 0, nil
	case err != nil:
		return rounds.EvBroken, err
	case sc.failed():
		return 0, nil
	}
	return rounds.EvOver, nil
}

func (m *mesh) close() error {
	if m == nil {
		return nil // it could not be opened
	}
	if m.port != nil {
		_ = m.port.Close()
		m.port = nil
	}
	if c := m.comm.Load(); c != nil {
		return c.Close()
	}
	return nil
}

// meshError says that the ranks of a round did not find each other.
type meshError struct{ err error }

func (e *meshError) Error() string { return e.err.Error() }
func (e *meshError) Unwrap() error { return e.err }

// broke reports whether an error means that another rank of the round, or the link to it, failed. rank is the own one.
func broke(err error, rank int) bool {
	var me *meshError
	var ae *shuffle.AbortError
	switch {
	case errors.As(err, &me):
		return true
	case errors.As(err, &ae):
		// Where the trouble was found, there it is told from.
		return ae.Rank != rank || errors.Is(ae.Cause, shuffle.ErrPeerDown) || errors.Is(ae.Cause, shuffle.ErrClosed)
	}
	// What is closed under a round is found closed by whoever comes next.
	return errors.Is(err, shuffle.ErrPeerDown) || errors.Is(err, shuffle.ErrClosed)
}

package executor

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
)

// mesh is what the ranks of one round exchange data over.
type mesh struct {
	listener *tcp.Listener // until it is connected
	comm     atomic.Pointer[shuffle.Communicator]
}

// meshTime is how long the ranks of a round may take to find each other. All are there already.
const meshTime = 30 * time.Second

// openMesh opens the address at which the other ranks of a round find this one.
func (j *Job) openMesh() (*mesh, string, error) {
	l, err := tcp.Listen(net.JoinHostPort(j.dataHost(), "0"))
	if err != nil {
		return nil, "", err
	}
	return &mesh{listener: l}, l.Addr(), nil
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
	return host
}

// connect connects with the other ranks of a round.
func (m *mesh) connect(ctx context.Context, j *Job, key string, number, rank int, addrs []string) error {
	ctx, stop := context.WithTimeoutCause(ctx, meshTime, fmt.Errorf("it took longer than %v", meshTime))
	defer stop()
	l := m.listener
	m.listener = nil // Connect closes it
	t, err := tcp.Connect(ctx, tcp.Options{
		Job: j.cfg.Name, Rank: rank, Addrs: addrs, Listener: l, Epoch: uint32(number), Spec: fmt.Sprintf("stage %s, round %d", key, number),
		Secret: j.cfg.Secret, ForceTLS: len(j.cfg.Secret) > 0, LinkTimeout: j.cfg.Silence,
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

func (m *mesh) close() error {
	if m == nil {
		return nil // it could not be opened
	}
	if m.listener != nil {
		_ = m.listener.Close()
		m.listener = nil
	}
	if c := m.comm.Load(); c != nil {
		return c.Close()
	}
	return nil
}

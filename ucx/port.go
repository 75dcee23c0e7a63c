//go:build ucx && cgo

package ucx

import (
	"context"
	"fmt"
	"sync"
)

// Port is where other ranks reach this one: a worker of UCX. It belongs to one goroutine.
type Port struct {
	c    *Context
	w    *worker
	addr address
	once sync.Once
}

// Listen opens a port. UCX listens on it at once, at addresses of its own choice and ports of TCP_PORT_RANGE, if that is set, of which the error
// says if none is free; what arrives is not looked at before [Port.Connect].
func (c *Context) Listen() (*Port, error) {
	if err := c.use(1); err != nil {
		return nil, err
	}
	w := c.spare()
	if w == nil {
		var err error
		if w, err = c.listen(); err != nil {
			_ = c.use(-1)
			return nil, err
		}
	}
	p := &Port{c: c, w: w}
	bytes, err := w.address()
	if err == nil {
		p.addr, err = newAddress(bytes)
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// Addr is what the others are told: some hundred bytes of text.
func (p *Port) Addr() string { return p.addr.String() }

// Close closes a port that is not connected.
func (p *Port) Close() error {
	p.once.Do(func() {
		p.c.keep(p.w)
		_ = p.c.use(-1)
	})
	return nil
}

// drop is Close for a port that has begun to connect.
func (p *Port) drop() {
	p.once.Do(func() {
		p.w.close()
		_ = p.c.use(-1)
	})
}

// Connect connects with all other ranks. It returns when each of them has proven that it is in the job; when one cannot be reached; when a
// rank of this job turns out to have been started with something else (the error wraps [shuffle.ErrMismatch]); or when ctx ends: then the
// error wraps that of ctx, and names the ranks that are missing. The port is closed if it fails, and else when the transport is.
func (p *Port) Connect(ctx context.Context, o Options) (*Transport, error) {
	o.EnsureDefaults()
	err := o.Validate()
	var addrs []address
	if err == nil {
		addrs, err = parseAddresses(&o)
	}
	if err == nil && addrs[o.Rank].nonce != p.addr.nonce {
		err = fmt.Errorf("ucx: rank %d: %w", o.Rank, mismatch("Addrs has the address of another port for this rank"))
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	t, err := newTransport(p, o, addrs)
	if err != nil {
		p.drop()
		return nil, err
	}
	go t.run()
	return t, t.meet(ctx)
}

func parseAddresses(o *Options) ([]address, error) {
	addrs := make([]address, len(o.Addrs))
	seen := make(map[[nonceSize]byte]int)
	for r, text := range o.Addrs {
		a, err := parseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("ucx: rank %d and rank %d cannot work together: %w", o.Rank, r, err)
		}
		if other, ok := seen[a.nonce]; ok {
			return nil, fmt.Errorf("ucx: rank %d: %w", o.Rank, mismatch("Addrs has one address for ranks %d and %d", other, r))
		}
		seen[a.nonce], addrs[r] = r, a
	}
	return addrs, nil
}

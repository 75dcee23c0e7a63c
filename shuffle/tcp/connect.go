package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/porch"
)

const (
	// firstRetry and lastRetry are how long a rank waits before it calls another again.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
	// moreCallers is how many callers, beyond one per rank, can be greeted at once.
	moreCallers = 64
)

// Connect connects a rank with all others: it calls the lower ranks, again and again until they answer, and is
// called by the higher. It returns when every link stands, when a rank of this job turns out to have been
// started with something else (the error wraps [shuffle.ErrMismatch]), or when ctx ends: then the error wraps
// that of ctx, and names the ranks that are missing and the last that was heard of each. It closes
// Options.Listener in any case, so that nobody can connect later.
//
// A rank that dies after it was connected and before all have met is reported by EventPeerDown when they have; a
// process that replaces it is turned away.
func Connect(ctx context.Context, o Options) (*Transport, error) {
	o.EnsureDefaults()
	if o.Listener != nil {
		defer o.Listener.Close()
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	m := &meeting{o: &o, greeter: greeter{
		me: hello{
			rank: o.Rank, size: len(o.Addrs), epoch: o.Epoch, window: o.window(), job: o.Job, spec: o.Spec,
		},
		version: greetingVersion, timeout: o.HandshakeTimeout, link: o.LinkTimeout,
	}}
	if o.needTLS() != "" {
		var err error
		if m.greeter.tls, err = identity(o.Secret); err != nil {
			return nil, err
		}
	}
	return m.run(ctx)
}

// meeting is a Connect under way.
type meeting struct {
	o       *Options
	greeter greeter

	mu      sync.Mutex
	conns   []net.Conn // by rank
	windows []int
	claimed []string // by rank: address of a caller whose greeting has come far
	heard   []string // by rank: the last trouble with it
	turned  int      // callers turned away
	last    string   // why the last was
	missing int
	fatal   error
	over    context.CancelFunc // ends the meeting
}

func (m *meeting) run(ctx context.Context) (*Transport, error) {
	size := len(m.o.Addrs)
	m.conns, m.windows = make([]net.Conn, size), make([]int, size)
	m.claimed, m.heard = make([]string, size), make([]string, size)
	m.missing = size - 1
	inner, cancel := context.WithCancel(ctx)
	m.over = cancel
	if m.missing == 0 {
		cancel()
	}
	var all sync.WaitGroup
	for r := range m.o.Rank {
		all.Go(func() { m.callRank(inner, r) })
	}
	if m.o.Rank < size-1 {
		all.Go(func() { m.accept(inner) })
	}
	<-inner.Done()
	all.Wait()
	cancel()
	if m.missing == 0 && m.fatal == nil {
		return newTransport(*m.o, m.conns, m.windows), nil
	}
	for _, c := range m.conns {
		if c != nil {
			_ = under(c).Close()
		}
	}
	if m.fatal != nil {
		return nil, m.fatal
	}
	return nil, m.incomplete(context.Cause(ctx))
}

// incomplete says which ranks did not come.
func (m *meeting) incomplete(cause error) error {
	var b strings.Builder
	for r, c := range m.conns {
		if c != nil || r == m.o.Rank {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		heard := m.heard[r]
		if heard == "" {
			heard = "never heard of"
		}
		fmt.Fprintf(&b, "rank %d at %s (%s)", r, m.o.Addrs[r], heard)
	}
	if m.turned > 0 {
		fmt.Fprintf(&b, "; callers turned away: %d, the last %s", m.turned, m.last)
	}
	return fmt.Errorf("tcp: rank %d of %d misses %s: %w", m.o.Rank, len(m.o.Addrs), b.String(), cause)
}

// fail ends the meeting: this rank cannot do its job.
func (m *meeting) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fatal == nil && m.missing > 0 {
		m.fatal = err
		m.over()
	}
}

func (m *meeting) hear(r int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[r] = plain(err).Error()
}

// plain takes the addresses out of an error of package net, where they stand beside it already.
func plain(err error) error {
	if op, ok := err.(*net.OpError); ok {
		return op.Err
	}
	return err
}

// arrived enters a link.
func (m *meeting) arrived(r int, c net.Conn, window int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[r], m.windows[r] = c, window
	if m.missing--; m.missing == 0 {
		m.over()
	}
}

// callRank calls a lower rank until it is there.
func (m *meeting) callRank(ctx context.Context, r int) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		c, theirs, err := m.callOnce(ctx, r)
		if err == nil {
			m.arrived(r, c, theirs.window)
			return
		}
		if ctx.Err() != nil {
			return // err says no more than that
		}
		var no *refusal
		if errors.As(err, &no) && no.code == verdictNo {
			m.fail(fmt.Errorf("tcp: rank %d and rank %d at %s cannot work together: %w", m.o.Rank, r, m.o.Addrs[r], err))
			return
		}
		m.hear(r, err)
		pause.Reset(wait)
	}
}

func (m *meeting) callOnce(ctx context.Context, r int) (net.Conn, hello, error) {
	dial, stop := context.WithTimeout(ctx, m.o.HandshakeTimeout)
	defer stop()
	c, err := dialOn(dial, m.o.Network, m.o.Addrs[r])
	if err != nil {
		return nil, hello{}, err
	}
	return m.greeter.call(ctx, c, r)
}

// accept greets callers until the meeting is over.
func (m *meeting) accept(ctx context.Context) {
	var callers sync.WaitGroup
	defer callers.Wait()
	l := m.o.Listener.l
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := porch.New(len(m.o.Addrs) + moreCallers)
	for {
		c, err := accept(l)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, net.ErrClosed) {
				m.fail(fmt.Errorf("tcp: rank %d: Options.Listener was closed before all ranks were there", m.o.Rank))
				return
			}
			// Most likely too many open files, which may pass.
			select {
			case <-time.After(lastRetry):
			case <-ctx.Done():
			}
			continue
		}
		caller := &caller{rawConn: c}
		caller.leave = places.Enter(c.RemoteAddr(), func() {
			caller.away.Store(true)
			_ = c.Close()
		})
		callers.Go(func() {
			defer caller.leave()
			m.greet(ctx, caller)
		})
	}
}

// caller is one who has called and is not known yet.
type caller struct {
	rawConn
	leave func()      // ends its time on the porch
	away  atomic.Bool // it was sent away
}

// greet decides about one caller.
func (m *meeting) greet(ctx context.Context, c *caller) {
	from := c.RemoteAddr().String()
	claim := -1 // the rank that this caller was admitted as
	conn, theirs, err := m.greeter.receive(ctx, c.rawConn, func(r int) *refusal {
		no := m.claim(r, from)
		if no == nil {
			claim = r
			c.leave()
		}
		return no
	})
	if err == nil {
		m.arrived(theirs.rank, conn, theirs.window)
		return
	}
	m.mu.Lock()
	if claim >= 0 {
		m.claimed[claim] = ""
	}
	m.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	var no *refusal
	if errors.As(err, &no) && no.ours {
		m.fail(fmt.Errorf("tcp: rank %d and rank %d, which calls from %s, cannot work together: %w",
			m.o.Rank, theirs.rank, from, err))
		return
	}
	if c.away.Load() {
		err = fmt.Errorf("%w: %w", errStranger, porch.ErrSentAway)
	}
	line := fmt.Sprintf("from %s: %v", from, err)
	m.mu.Lock()
	m.turned++
	m.last = line
	m.mu.Unlock()
	if m.o.Log != nil {
		m.o.Log(fmt.Sprintf("tcp: rank %d turned away a caller %s", m.o.Rank, line))
	}
}

// claim keeps a place for a caller whose hello is right.
func (m *meeting) claim(r int, from string) *refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conns[r] != nil {
		return &refusal{code: verdictNo, err: mismatch("another process is rank %d of this job, at %s", r, m.conns[r].RemoteAddr())}
	}
	if other := m.claimed[r]; other != "" {
		return &refusal{code: verdictLater, err: fmt.Errorf("rank %d is being greeted at %s", r, other)}
	}
	m.claimed[r] = from
	return nil
}

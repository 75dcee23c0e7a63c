package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// gather waits until all ranks have joined. After that, ranks that were lost may come back.
func (j *Job) gather(ctx context.Context) error {
	l := j.cfg.Listener
	if l == nil && j.cfg.Size > 1 {
		var err error
		if l, err = net.Listen("tcp", j.cfg.Root); err != nil {
			return fmt.Errorf("executor: rank 0 cannot listen at %s: %w", j.cfg.Root, err)
		}
	}
	if l == nil {
		return nil
	}
	j.accept = l
	joined := make(chan struct{}, j.cfg.Size)
	j.all.Add(1)
	go func() {
		defer j.all.Done()
		j.listen(l, joined)
	}()
	for {
		j.mu.Lock()
		n := len(j.links)
		j.mu.Unlock()
		if n == j.cfg.Size-1 {
			return nil
		}
		select {
		case <-joined:
		case <-ctx.Done():
			return fmt.Errorf("executor: rank 0 of %d misses %s: %w", j.cfg.Size, j.missing(), context.Cause(ctx))
		}
	}
}

// missing names the ranks that are not there.
func (j *Job) missing() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var names []string
	for r := 1; r < j.cfg.Size; r++ {
		if j.links[r] == nil {
			names = append(names, fmt.Sprint(r))
		}
	}
	if len(names) == 1 {
		return "rank " + names[0]
	}
	return "ranks " + strings.Join(names, ", ")
}

// strangers is how many callers can be greeted at once.
const strangers = 64

func (j *Job) listen(l net.Listener, joined chan<- struct{}) {
	var greetings sync.WaitGroup
	defer greetings.Wait()
	seats := make(chan struct{}, j.cfg.Size+strangers)
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-time.After(100 * time.Millisecond): // too many open files, most likely
				continue
			case <-j.ctx.Done():
				return
			}
		}
		select {
		case seats <- struct{}{}:
		case <-j.ctx.Done():
			_ = c.Close()
			return
		}
		greetings.Go(func() {
			defer func() { <-seats }()
			stop := context.AfterFunc(j.ctx, func() { _ = c.Close() })
			err := j.greet(c)
			if !stop() {
				return
			}
			if err != nil {
				_ = c.Close()
				j.note("turned away a caller from %s: %v", c.RemoteAddr(), err)
				return
			}
			select {
			case joined <- struct{}{}:
			default: // nobody waits any more
			}
		})
	}
}

// greetTime is how long a greeting may take.
const greetTime = 10 * time.Second

// greet takes a rank in.
func (j *Job) greet(c net.Conn) error {
	if j.secure(c) != nil {
		return j.secure(c)
	}
	conn := control.NewConn(c, min(greetTime, j.cfg.Silence))
	m, err := conn.Receive()
	if err != nil {
		conn.Break()
		return err
	}
	refuse := func(format string, args ...any) error {
		err := fmt.Errorf(format, args...)
		_ = conn.Send(&control.Message{Kind: kindRefuse, Text: err.Error()})
		_ = conn.Close()
		return err
	}
	if m.Kind != kindHello || len(m.Names) != 3 {
		return refuse("it does not say who it is")
	}
	if m.N != control.Version {
		return refuse("it speaks version %d of the protocol, rank 0 version %d; use the same program on all ranks", m.N, control.Version)
	}
	switch name, spec := m.Names[0], m.Names[1]; {
	case name != j.cfg.Name:
		return refuse("it is of the job %q, rank 0 of %q", name, j.cfg.Name)
	case m.At != int64(j.cfg.Size):
		return refuse("rank %d says that there are %d ranks, rank 0 says %d", m.Rank, m.At, j.cfg.Size)
	case m.Rank < 1 || m.Rank >= int64(j.cfg.Size):
		return refuse("there is no rank %d among %d", m.Rank, j.cfg.Size)
	case spec != j.cfg.Spec:
		return refuse("rank %d was started with other options or sees another input than rank 0", m.Rank)
	}
	l := newLink(j, conn, int(m.Rank), m.Names[2], int(max(1, min(m.Actor, maxWorkers))))
	j.mu.Lock()
	other := j.links[l.rank]
	if other == nil && !j.closed {
		j.links[l.rank] = l
	}
	j.mu.Unlock()
	if other != nil {
		// It may be the same rank, back before it was known to be lost.
		err := fmt.Errorf("rank %d is there already, on %s", l.rank, other.host)
		_ = conn.Send(&control.Message{Kind: kindRefuse, Flags: flagTransient, Text: err.Error()})
		_ = conn.Close()
		return err
	}
	// Welcome is the first that the rank hears: nothing is sent before, as it is not in a stage yet.
	l.send(&control.Message{Kind: kindWelcome, Names: []string{j.host}})
	l.start()
	return nil
}

// secure is where connections are encrypted.
func (j *Job) secure(net.Conn) error { return nil }

// meetRoot finds rank 0, however long it takes to come.
func (j *Job) meetRoot(ctx context.Context) error {
	last := error(nil)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := j.callRoot(ctx)
		if err == nil || errors.Is(err, ErrRefused) {
			return err
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if last == nil {
				last = errors.New("no answer")
			}
			return fmt.Errorf("executor: rank %d of %d does not reach rank 0 at %s (%w): %w",
				j.cfg.Rank, j.cfg.Size, j.cfg.Root, last, context.Cause(ctx))
		}
	}
}

func (j *Job) callRoot(ctx context.Context) error {
	d := net.Dialer{Timeout: greetTime}
	c, err := d.DialContext(ctx, "tcp", j.cfg.Root)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the address is said elsewhere
		}
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if j.cfg.DataHost == "" {
		j.cfg.DataHost, _, _ = net.SplitHostPort(c.LocalAddr().String())
	}
	conn := control.NewConn(c, j.cfg.Silence)
	err = conn.Send(&control.Message{
		Kind: kindHello, N: control.Version, Rank: int64(j.cfg.Rank), At: int64(j.cfg.Size), Actor: int64(j.cfg.Workers),
		Names: []string{j.cfg.Name, j.cfg.Spec, j.host},
	})
	var m *control.Message
	if err == nil {
		m, err = conn.Receive()
	}
	switch {
	case err != nil:
		conn.Break()
		return err
	case m.Kind == kindRefuse && m.Flags&flagTransient != 0:
		conn.Break()
		return errors.New(m.Text)
	case m.Kind == kindRefuse:
		conn.Break()
		return fmt.Errorf("executor: rank %d was %w at %s: %s", j.cfg.Rank, ErrRefused, j.cfg.Root, m.Text)
	case m.Kind != kindWelcome || len(m.Names) != 1:
		conn.Break()
		return fmt.Errorf("executor: rank %d: what answers at %s is no rank 0", j.cfg.Rank, j.cfg.Root)
	}
	l := newLink(j, conn, 0, m.Names[0], 0)
	j.mu.Lock()
	j.links[0] = l
	j.mu.Unlock()
	l.start()
	return nil
}

// ranks returns the ranks that are there, the root included.
func (j *Job) ranks() []int {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := []int{0}
	for r := range j.links {
		list = append(list, r)
	}
	slices.Sort(list)
	return list
}

package executor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/internal/porch"
)

// gather waits until all ranks have joined. After that, ranks that were lost may come back.
func (j *Job) gather(ctx context.Context) error {
	l := j.cfg.Listener
	if l == nil && j.cfg.Size > 1 {
		var err error
		if l, err = j.cfg.Network.Listen(j.cfg.Root); err != nil {
			return fmt.Errorf("executor: rank 0 cannot listen at %s: %w", j.cfg.Root, err)
		}
	}
	if l == nil {
		return nil
	}
	j.accept = l
	if err := j.mayListen(l.Addr().String()); err != nil {
		return err
	}
	joined := make(chan struct{}, j.cfg.Size)
	j.all.Add(1)
	go func() {
		defer j.all.Done()
		j.listen(l, joined)
	}()
	for {
		j.mu.Lock()
		n := len(j.links)
		if j.children == nil {
			n = len(j.where) - 1 // those too that have come and are gone again: they are lost, and not awaited
		}
		j.mu.Unlock()
		if n == j.cfg.Size-1 {
			return nil
		}
		select {
		case <-joined:
		case <-j.ctx.Done():
			return j.Err()
		case <-ctx.Done():
			if j.children != nil {
				return fmt.Errorf("executor: the processes of actors have not all begun, %s: %w", j.missing(), context.Cause(ctx))
			}
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
		if _, came := j.where[r]; j.links[r] == nil && (j.children != nil || !came) {
			names = append(names, fmt.Sprint(r))
		}
	}
	if len(names) == 1 {
		return "rank " + names[0]
	}
	return "ranks " + strings.Join(names, ", ")
}

// protect makes what connections are encrypted with, if there is a secret.
func (j *Job) protect() (err error) {
	if len(j.cfg.Secret) > 0 {
		j.tls, err = jobtls.Config(j.cfg.Secret, "control")
	}
	return err
}

// mayListen reports why this rank must not listen at an address. What it says of a name that was given depends on how that was resolved,
// so it is asked when the listener is there, and before anybody is let in.
func (j *Job) mayListen(addr string) error {
	if what := jobtls.Exposed(addr); what != "" && !j.cfg.Public {
		return fmt.Errorf("executor: rank %d would listen at %s, %s: give an address of the network that the ranks share (the root's, or DataHost), "+
			"or insist by Public (--listen-public)", j.cfg.Rank, addr, what)
	}
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); j.tls == nil && ip != nil && !ip.IsLoopback() {
		return fmt.Errorf("executor: rank %d would listen at %s, where others than this machine's can reach it, without a Secret: the same %d or "+
			"more random bytes for each rank (for instance: openssl rand -hex 32)", j.cfg.Rank, addr, jobtls.MinSecret)
	}
	return nil
}

// strangers is how many callers, beyond one per rank, can be greeted at once.
const strangers = 64

func (j *Job) listen(l net.Listener, joined chan<- struct{}) {
	var greetings sync.WaitGroup
	defer greetings.Wait()
	places := porch.New(j.cfg.Size + strangers)
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
		var away atomic.Bool
		leave := places.Enter(c.RemoteAddr(), func() {
			away.Store(true)
			_ = c.Close()
		})
		greetings.Go(func() {
			stop := context.AfterFunc(j.ctx, func() { _ = c.Close() })
			err := j.greet(c, leave)
			leave()
			if !stop() {
				return
			}
			if err != nil && away.Load() {
				err = porch.ErrSentAway
			}
			if err != nil {
				_ = c.Close()
				if j.children != nil && errors.Is(err, errThere) {
					return // the one before it is on its way out
				}
				j.turnedAway(c.RemoteAddr(), err)
				return
			}
			select {
			case joined <- struct{}{}:
			default: // nobody waits any more
			}
		})
	}
}

// errThere turns a rank away that may come back in a moment.
var errThere = errors.New("it is there already")

// greetTime is how long a greeting may take.
const greetTime = 10 * time.Second

// helloNames is how many names a hello has: of the job, what must be the same, of the machine, and the program's version.
const helloNames = 4

// turnedAway says that a caller was. Of many, as a scan of ports brings, the first few are said and then ever fewer.
func (j *Job) turnedAway(from net.Addr, why error) {
	const all = 20
	j.mu.Lock()
	j.turned++
	n := j.turned
	j.mu.Unlock()
	switch {
	case n <= all:
		j.note("turned away a caller from %s: %v", from, why)
	case n&(n-1) == 0:
		j.note("turned away %d callers, the last from %s: %v", n, from, why)
	}
}

// greet takes a rank in. It calls known when it is sure that this is one.
func (j *Job) greet(c net.Conn, known func()) error {
	safe, err := j.accepted(c)
	if err != nil {
		return err
	}
	c = safe
	conn := control.Greet(c, greetTime)
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
	if m.Kind != kindHello {
		return refuse("it does not say who it is")
	}
	// Nothing else of a hello is the same in all versions.
	if m.N != control.Version {
		return refuse("it speaks version %d of the protocol, rank 0 version %d; use the same program on all ranks", m.N, control.Version)
	}
	if len(m.Names) != helloNames {
		return refuse("it does not say who it is")
	}
	switch name, spec, version := m.Names[0], m.Names[1], m.Names[3]; {
	case name != j.cfg.Name:
		return refuse("it is of the job %q, rank 0 of %q", name, j.cfg.Name)
	case m.At != int64(j.cfg.Size):
		return refuse("rank %d says that there are %d ranks, rank 0 says %d", m.Rank, m.At, j.cfg.Size)
	case m.Rank < 1 || m.Rank >= int64(j.cfg.Size):
		return refuse("there is no rank %d among %d", m.Rank, j.cfg.Size)
	case version != j.cfg.Version:
		return refuse("rank %d is version %q, rank 0 version %q; use the same program on all ranks", m.Rank, version, j.cfg.Version)
	case spec != j.cfg.Spec:
		return refuse("rank %d was started with other options or sees another input than rank 0", m.Rank)
	}
	conn.Trust(j.cfg.Silence)
	known()
	l := newLink(j, conn, int(m.Rank), m.Names[2], int(max(1, min(m.Actor, maxWorkers))))
	l.process = m.Grant
	if j.children != nil && !j.children.expects(l.rank, l.process) {
		return refuse("it is not the process that rank 0 has started for actor %d", l.rank)
	}
	j.mu.Lock()
	late, there := j.late, j.links[l.rank] != nil || j.leaving[l.rank]
	if !there && !late && !j.closed {
		j.links[l.rank], j.where[l.rank] = l, l.host
	}
	j.mu.Unlock()
	if late {
		return refuse("the job is about to end, and there is nothing left for this rank to do")
	}
	if there {
		// It may be the same rank, back before it was known to be lost.
		err := fmt.Errorf("%w: rank %d", errThere, l.rank)
		_ = conn.Send(&control.Message{Kind: kindRefuse, Flags: flagTransient, Text: err.Error()})
		_ = conn.Close()
		return err
	}
	// Welcome is the first that the rank hears: nothing is sent before, as it is not in a stage yet.
	l.send(&control.Message{Kind: kindWelcome, Names: []string{j.host}})
	l.start()
	return nil
}

// accepted makes a connection that was accepted safe. A caller that has no secret where there is one, or the other way round, is
// told. The first bytes tell: those of a greeting are the length of a short message.
func (j *Job) accepted(c net.Conn) (net.Conn, error) {
	_ = c.SetDeadline(time.Now().Add(greetTime))
	defer c.SetDeadline(time.Time{})
	p := &peeked{Conn: c, first: make([]byte, 3)}
	if _, err := io.ReadFull(c, p.first); err != nil {
		return nil, err
	}
	isTLS := p.first[0] == 0x16 && p.first[1] == 3 && p.first[2] == 1
	switch {
	case isTLS && j.tls == nil:
		return nil, errors.New("it uses TLS: it was given a secret, and rank 0 was not")
	case isTLS:
		s := tls.Server(p, j.tls)
		return s, jobtls.Explain(s.Handshake())
	case j.tls != nil:
		err := errors.New("it does not use TLS: this job has a secret, which all ranks must be given")
		conn := control.Greet(p, greetTime)
		// A connection that is closed with something unread may take the answer with it.
		_, _ = conn.Receive()
		_ = conn.Send(&control.Message{Kind: kindRefuse, Text: err.Error()})
		_ = conn.Close()
		return nil, err
	}
	return p, nil
}

// peeked is a connection of which the first bytes have been read.
type peeked struct {
	net.Conn
	first []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite tells the other end that nothing more comes.
func (p *peeked) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// called makes a connection to the root safe.
func (j *Job) called(ctx context.Context, c net.Conn) (net.Conn, error) {
	if j.tls == nil {
		return c, nil
	}
	ctx, stop := context.WithTimeout(ctx, greetTime)
	defer stop()
	s := tls.Client(c, j.tls)
	if err := jobtls.Explain(s.HandshakeContext(ctx)); err != nil {
		if errors.Is(err, jobtls.ErrSecret) {
			return nil, fmt.Errorf("executor: rank %d was %w at %s: %w", j.cfg.Rank, ErrRefused, j.cfg.Root, err)
		}
		return nil, fmt.Errorf("it does not answer with TLS, perhaps because it was given no secret: %w", err)
	}
	return s, nil
}

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
	dial, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	c, err := j.cfg.Network.Dial(dial, j.cfg.Root)
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
	safe, err := j.called(ctx, c)
	if err != nil {
		_ = c.Close()
		return err
	}
	conn := control.NewConn(safe, j.cfg.Silence)
	hello := &control.Message{
		Kind: kindHello, N: control.Version, Rank: int64(j.cfg.Rank), At: int64(j.cfg.Size), Actor: int64(j.cfg.Workers),
		Names: []string{j.cfg.Name, j.cfg.Spec, j.host, j.cfg.Version},
	}
	if j.parent != nil {
		hello.Grant = j.parent.Process
	}
	err = conn.Send(hello)
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

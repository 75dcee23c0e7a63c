package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// refusal is why two ranks do not talk.
type refusal struct {
	code verdictCode // verdictNo or verdictLater
	// ours is true if the other is certainly of this job and epoch, so that the job cannot go on.
	ours bool
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{shuffle.ErrMismatch}, args...)...)
}

// compare says what differs between this rank's hello and another's. "There" is the other end in both texts, so
// each side's line is right where it is read.
func compare(mine, theirs *hello) *refusal {
	switch {
	case theirs.job != mine.job:
		return &refusal{code: verdictLater, err: mismatch("its job is %s, here it is %s", quote(theirs.job), quote(mine.job))}
	case theirs.epoch != mine.epoch:
		return &refusal{code: verdictLater, err: mismatch("its epoch is %d, here it is %d", theirs.epoch, mine.epoch)}
	case theirs.size != mine.size:
		return &refusal{verdictNo, true, mismatch("its job has %d ranks, here it has %d", theirs.size, mine.size)}
	case theirs.spec != mine.spec:
		return &refusal{verdictNo, true, mismatch("its spec is %s, here it is %s", quote(theirs.spec), quote(mine.spec))}
	case theirs.to != mine.rank:
		return &refusal{verdictNo, true, mismatch("it looks for rank %d, but this is rank %d; "+
			"Addrs must be the same on all ranks", theirs.to, mine.rank)}
	}
	return nil
}

// errStranger is wrapped by errors about callers that are no ranks.
var errStranger = errors.New("it is no rank of any job")

// greeter does the greetings of one rank.
type greeter struct {
	me      hello
	version uint16
	tls     *tls.Config // nil without
	timeout time.Duration
	link    time.Duration
}

// limit ends a greeting after its time, and when ctx ends. The caller calls the result when it is over.
func (g *greeter) limit(ctx context.Context, c rawConn) (stop func() bool, err error) {
	if err := tune(c, g.link); err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(g.timeout)); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }), nil
}

// call greets rank r as the one that dialed. It closes c if it fails.
func (g *greeter) call(ctx context.Context, c rawConn, r int) (conn net.Conn, theirs hello, err error) {
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	stop, err := g.limit(ctx, c)
	if err != nil {
		return nil, theirs, err
	}
	defer stop()
	conn = c
	if g.tls != nil {
		if conn, err = secure(ctx, c, nil, g.tls, false); err != nil {
			return nil, theirs, explainTLS(err)
		}
	}
	mine := g.me
	mine.to = r
	if _, err := conn.Write(mine.encode(g.version)); err != nil {
		return nil, theirs, err
	}
	theirs, no := g.readHello(conn, nil, &mine)
	if no == nil && theirs.rank != r {
		no = &refusal{verdictNo, true, mismatch("it is rank %d; Addrs must be the same on all ranks", theirs.rank)}
	}
	if no != nil {
		return nil, theirs, g.refuse(ctx, conn, no)
	}
	v, err := g.readVerdict(conn)
	if err != nil {
		return nil, theirs, err
	}
	if v.code != verdictYes {
		return nil, theirs, &refusal{code: v.code, err: mismatch("it says: %s", v.text)}
	}
	yes := verdict{code: verdictYes}
	if _, err := conn.Write(yes.encode()); err != nil {
		return nil, theirs, err
	}
	return conn, theirs, done(c, stop)
}

// done makes a greeted connection fit for use.
func done(c rawConn, stop func() bool) error {
	if !stop() {
		return context.Canceled // and the deadline is in the past
	}
	return c.SetDeadline(time.Time{})
}

// receive greets a caller. admit decides about one whose hello is right, and may be nil. It closes c if it fails.
func (g *greeter) receive(ctx context.Context, c rawConn, admit func(rank int) *refusal) (conn net.Conn, theirs hello, err error) {
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	stop, err := g.limit(ctx, c)
	if err != nil {
		return nil, theirs, err
	}
	defer stop()
	// The first bytes tell a rank with TLS, one without, and anybody else apart.
	first := make([]byte, len(greetingMagic))
	for n := 0; n < len(first); {
		k, err := c.Read(first[n:])
		if err != nil {
			return nil, theirs, fmt.Errorf("%w: it said %d bytes: %w", errStranger, n, err)
		}
		n += k
	}
	plain, isTLS := string(first) == greetingMagic, first[0] == 0x16 && first[1] == 3
	conn = c
	switch {
	case plain && g.tls != nil:
		return nil, theirs, g.refuse(ctx, conn, &refusal{code: verdictNo, err: mismatch("it calls without TLS, here TLS is on")})
	case isTLS && g.tls == nil:
		return nil, theirs, g.refuse(ctx, conn, &refusal{code: verdictNo, err: mismatch("it calls with TLS, here TLS is off")})
	case g.tls != nil && isTLS:
		if conn, err = secure(ctx, c, first, g.tls, true); err != nil {
			return nil, theirs, explainTLS(err)
		}
		first = nil
	case !plain:
		return nil, theirs, fmt.Errorf("%w: it starts with %q", errStranger, first)
	}
	theirs, no := g.readHello(conn, first, &g.me)
	if no != nil && errors.Is(no, errStranger) {
		return nil, theirs, no
	}
	if no == nil {
		if theirs.rank <= g.me.rank {
			no = &refusal{verdictNo, true, mismatch("it says that it is rank %d, but only higher ranks call rank %d; "+
				"every rank needs another number", theirs.rank, g.me.rank)}
		} else {
			no = admit(theirs.rank)
		}
	}
	mine := g.me
	mine.to = theirs.rank
	if _, err := conn.Write(mine.encode(g.version)); err != nil {
		return nil, theirs, err
	}
	if no != nil {
		return nil, theirs, g.refuse(ctx, conn, no)
	}
	yes := verdict{code: verdictYes}
	if _, err := conn.Write(yes.encode()); err != nil {
		return nil, theirs, err
	}
	v, err := g.readVerdict(conn)
	if err != nil {
		return nil, theirs, err
	}
	if v.code != verdictYes {
		return nil, theirs, &refusal{code: v.code, err: mismatch("it says: %s", v.text)}
	}
	return conn, theirs, done(c, stop)
}

// lastWords is for how long an end that was refused may take to hear why.
const lastWords = time.Second

// refuse tells the other end, and returns why. It waits until the other end has closed the connection, for a second at most: one that is
// closed with something unread takes with it what was said last.
func (g *greeter) refuse(ctx context.Context, conn net.Conn, no *refusal) error {
	v := verdict{code: no.code, text: no.Error()}
	c := under(conn)
	// The reason matters more than whether it was heard.
	if _, err := conn.Write(v.encode()); err != nil || c.CloseWrite() != nil {
		return no
	}
	_ = c.SetReadDeadline(time.Now().Add(lastWords))
	if ctx.Err() == nil { // or the deadline was in the past already
		_, _ = io.Copy(io.Discard, io.LimitReader(c, 2*greetingMost))
	}
	return no
}

// readHello reads the other end's hello and compares it.
func (g *greeter) readHello(conn net.Conn, first []byte, mine *hello) (hello, *refusal) {
	version, kind, body, err := readGreeting(conn, first)
	switch {
	case err != nil:
		return hello{}, &refusal{code: verdictLater, err: fmt.Errorf("%w: %w", errStranger, err)}
	case version != g.version:
		return hello{}, &refusal{code: verdictNo,
			err: mismatch("it speaks version %d of the protocol, here it is %d", version, g.version)}
	case kind == greetingVerdict:
		v, err := decodeVerdict(body)
		if err == nil {
			err = mismatch("it says: %s", v.text)
		}
		return hello{}, &refusal{code: verdictNo, err: err}
	case kind != greetingHello:
		return hello{}, &refusal{code: verdictNo, err: protocol("a greeting of kind %d", kind)}
	}
	h, err := decodeHello(body)
	if err != nil {
		return hello{}, &refusal{code: verdictNo, err: err}
	}
	if no := compare(mine, &h); no != nil {
		return h, no
	}
	return h, nil
}

func (g *greeter) readVerdict(conn net.Conn) (verdict, error) {
	_, kind, body, err := readGreeting(conn, nil)
	if err != nil {
		return verdict{}, err
	}
	if kind != greetingVerdict {
		return verdict{}, protocol("a greeting of kind %d instead of a verdict", kind)
	}
	return decodeVerdict(body)
}

// explainTLS says in words of the job what a failed TLS handshake means.
func explainTLS(err error) error {
	var head tls.RecordHeaderError
	switch {
	case errors.Is(jobtls.Explain(err), jobtls.ErrSecret):
		return &refusal{code: verdictNo, err: fmt.Errorf("%w: %w", shuffle.ErrMismatch, jobtls.ErrSecret)}
	case errors.As(err, &head) && strings.HasPrefix(greetingMagic, string(head.RecordHeader[:])):
		return &refusal{code: verdictNo, err: mismatch("it answers without TLS, here TLS is on")}
	}
	return fmt.Errorf("%w: TLS: %w", errStranger, err)
}

package tcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// pipe returns the two ends of a TCP connection.
func pipe(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// halfLink returns rank 0 of 2 after the greeting, and the connection on which rank 1, the test, can say what it
// likes.
func halfLink(t testing.TB, change func(o *Options)) (*Transport, *net.TCPConn) {
	t.Helper()
	ours, theirs := pipe(t)
	o := Options{Rank: 0, Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}
	if change != nil {
		change(&o)
	}
	o.EnsureDefaults()
	if err := tune(ours, o.LinkTimeout); err != nil {
		t.Fatal(err)
	}
	tr := newTransport(o, []net.Conn{nil, ours}, []int{0, o.window()})
	t.Cleanup(func() {
		_ = theirs.Close()
		_ = tr.Close()
	})
	return tr, theirs
}

func say(t testing.TB, c net.Conn, frames ...any) {
	t.Helper()
	var b []byte
	for _, f := range frames {
		switch f := f.(type) {
		case frame:
			b = appendFrame(b, f)
		case []byte:
			b = append(b, f...)
		}
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// A peer that breaks the protocol is down, once, with a reason, and nothing leaks.
func TestMisbehaviour(t *testing.T) {
	message := func(n, size uint64, length uint32) frame {
		return frame{kind: kindMessage, number: n, size: size, length: length}
	}
	flipped := func(f frame, i int) []byte {
		b := appendFrame(nil, f)
		b[i] ^= 0x10
		return b
	}
	var many []any
	for n := range uint64(shuffle.MaxInFlight + 1) {
		many = append(many, message(n+1, 0, 0))
	}
	for name, tc := range map[string]struct {
		say  []any
		want error
		text string
	}{
		"garbage":              {[]any{[]byte(strings.Repeat("garbage ", 10))}, shuffle.ErrProtocol, "starts with"},
		"flipped bit":          {[]any{flipped(message(1, 0, 0), 10)}, shuffle.ErrCorrupt, "checksum"},
		"flipped in checksum":  {[]any{flipped(message(1, 0, 0), 29)}, shuffle.ErrCorrupt, "checksum"},
		"unknown kind":         {[]any{frame{kind: 99}}, shuffle.ErrProtocol, "kind 99"},
		"kind 0":               {[]any{frame{}}, shuffle.ErrProtocol, "kind 0"},
		"header too long":      {[]any{message(1, 0, shuffle.MaxHeader+1)}, shuffle.ErrProtocol, "makes no sense"},
		"payload too long":     {[]any{message(1, 1<<63, 0)}, shuffle.ErrProtocol, "makes no sense"},
		"cut off":              {[]any{message(1, 0, 100), []byte("short")}, io.ErrUnexpectedEOF, "without a goodbye"},
		"message left out":     {[]any{message(2, 0, 0)}, shuffle.ErrProtocol, "message 2 follows message 0"},
		"message again":        {[]any{message(1, 0, 0), message(1, 0, 0)}, shuffle.ErrProtocol, "message 1 follows message 1"},
		"too many":             {many, shuffle.ErrProtocol, "more than 64 messages"},
		"payload unasked":      {[]any{message(1, 5, 0), frame{kind: kindPayload, number: 1, length: 5}}, shuffle.ErrProtocol, "unasked"},
		"payload of nothing":   {[]any{frame{kind: kindPayload, number: 1, length: 5}}, shuffle.ErrProtocol, "unasked"},
		"answer to nothing":    {[]any{frame{kind: kindAccept, number: 1}}, shuffle.ErrProtocol, "not offered"},
		"refusal of nothing":   {[]any{frame{kind: kindRefuse, number: 1 << 60}}, shuffle.ErrProtocol, "not offered"},
		"took what was not":    {[]any{frame{kind: kindTaken, number: 1}}, shuffle.ErrProtocol, "took message 1 of 0"},
		"goodbye too early":    {[]any{message(1, 5, 0), frame{kind: kindBye, number: 1}}, shuffle.ErrProtocol, "0 of them whole"},
		"goodbye of the wrong": {[]any{frame{kind: kindBye, number: 3}}, shuffle.ErrProtocol, "0 have arrived"},
		"goodbye":              {[]any{frame{kind: kindBye}}, shuffle.ErrClosed, "closed its endpoint"},
		"nothing":              {nil, io.ErrUnexpectedEOF, "without a goodbye"},
	} {
		t.Run(name, func(t *testing.T) {
			tr, c := halfLink(t, nil)
			say(t, c, tc.say...)
			_ = c.CloseWrite()
			var events [100]shuffle.Event
			var down error
			for down == nil {
				select {
				case <-tr.Ready():
				case <-time.After(2 * time.Minute):
					t.Fatal("nothing was noticed")
				}
				if !strings.Contains(name, "too many") || tr.gone(1) { // leave them unpolled
					n, err := tr.Poll(events[:])
					if err != nil {
						t.Fatal(err)
					}
					for i, ev := range events[:n] {
						if ev.Kind == shuffle.EventPeerDown {
							if down = ev.Err; i != n-1 {
								t.Error("an event after the last")
							}
						}
					}
				}
			}
			if !errors.Is(down, tc.want) || !strings.Contains(down.Error(), tc.text) ||
				!strings.HasPrefix(down.Error(), "tcp: rank 0 lost rank 1 at 127.0.0.1:") {
				t.Errorf("reason: %v", down)
			}
			if n, err := tr.Poll(events[:]); n != 0 || err != nil {
				t.Errorf("%d more events, %v", n, err)
			}
		})
	}
}

func (t *Transport) gone(r int) bool {
	t.hub.Lock()
	defer t.hub.Unlock()
	return t.peers[r].Gone()
}

// Whatever a peer sends, the memory for headers stays within the budget, and what is beyond the credit ends the
// link. The limit holds too when the caller keeps the events of its last Poll.
func TestReceiveBudget(t *testing.T) {
	tr, c := halfLink(t, func(o *Options) { o.ReceiveBudget = o.leastBudget() })
	p := tr.peers[1]
	check := func() {
		t.Helper()
		tr.hub.Lock()
		defer tr.hub.Unlock()
		if int64(p.Headers.Held()) > tr.opts.ReceiveBudget {
			t.Errorf("%d bytes are held, the budget is %d", p.Headers.Held(), tr.opts.ReceiveBudget)
		}
	}
	var events [shuffle.MaxInFlight]shuffle.Event
	number, room := uint64(0), shuffle.MaxHeader
	for round := range 200 {
		length := []int{0, 1, 64, 65, 1000, 40_000, shuffle.MaxHeader}[round%7]
		n := 0
		for room >= link.Cost(length) && n < shuffle.MaxInFlight {
			number++
			n++
			room -= link.Cost(length)
			say(t, c, frame{kind: kindMessage, number: number, length: uint32(length)}, make([]byte, length))
		}
		for got := 0; got < n; {
			<-tr.Ready()
			k, err := tr.Poll(events[got:])
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events[got : got+k] {
				if ev.Kind != shuffle.EventMessage || len(ev.Header) != length {
					t.Fatalf("event %+v", ev)
				}
			}
			got += k
			check()
		}
		room = shuffle.MaxHeader
	}
	for range 2 { // one more than there is credit for
		number++
		say(t, c, frame{kind: kindMessage, number: number, length: shuffle.MaxHeader}, make([]byte, shuffle.MaxHeader))
	}
	for !tr.gone(1) {
		select {
		case <-tr.Ready():
		case <-time.After(time.Millisecond): // it may be about to be
		}
		check()
	}
	waitEvent(t, tr, shuffle.EventMessage)
	if ev := waitEvent(t, tr, shuffle.EventPeerDown); !strings.Contains(ev.Err.Error(), "with credit for 0") {
		t.Error(ev.Err)
	}
}

// A receiver that neither polls nor accepts for much longer than LinkTimeout is slow, not dead.
func TestSlowConsumer(t *testing.T) {
	alloc := mem.NewChecked(t, mem.Host())
	ts := connectRanks(t, 2, func(o *Options) { o.LinkTimeout = time.Second })
	post := func(n int) {
		t.Helper()
		b, err := alloc.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		err = ts[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Payload: []*mem.Buffer{b}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		post(4 << 20)
	}
	ev := waitEvent(t, ts[1], shuffle.EventOffer)
	<-time.After(2500 * time.Millisecond)
	if n, err := ts[1].Poll(make([]shuffle.Event, 1)); n != 0 || err != nil {
		t.Fatalf("%d more events, %v", n, err)
	}
	for got := 0; got < 20; {
		switch ev.Kind {
		case shuffle.EventOffer:
			b, err := alloc.Alloc(int(ev.Size))
			if err != nil {
				t.Fatal(err)
			}
			err = ts[1].Post([]shuffle.Op{{Kind: shuffle.OpAccept, Cookie: ev.Cookie, Payload: []*mem.Buffer{b}}})
			if err != nil {
				t.Fatal(err)
			}
		case shuffle.EventMessage:
			got++
			link.ReleaseAll(ev.Payload)
		default:
			t.Fatalf("event %+v", ev)
		}
		for n := 0; n == 0 && got < 20; {
			var events [1]shuffle.Event
			var err error
			if n, err = ts[1].Poll(events[:]); err != nil {
				t.Fatal(err)
			}
			if ev = events[0]; n == 0 {
				<-ts[1].Ready()
			}
		}
	}
}

// A peer that takes nothing from the network is cut off after LinkTimeout.
func TestUserTimeout(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("TCP_USER_TIMEOUT is Linux's")
	}
	tr, c := halfLink(t, func(o *Options) { o.LinkTimeout = time.Second })
	b, err := mem.Host().Alloc(64 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Payload: []*mem.Buffer{b}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, frameSize)); err != nil {
		t.Fatal(err)
	}
	say(t, c, frame{kind: kindAccept, number: 1})
	start := time.Now()
	ev := waitEvent(t, tr, shuffle.EventPeerDown)
	if d := time.Since(start); d > 10*time.Second || d < 500*time.Millisecond {
		t.Errorf("it took %s", d)
	}
	if !strings.Contains(ev.Err.Error(), "timed out") {
		t.Error(ev.Err)
	}
}

// What was sent before a connection is reset still arrives; then comes the reason, and what this end had to send
// is released.
func TestReset(t *testing.T) {
	alloc := mem.NewChecked(t, mem.Host())
	tr, c := halfLink(t, nil)
	for range 10 {
		b, err := alloc.Alloc(10_000)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Payload: []*mem.Buffer{b}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(c, make([]byte, 10*frameSize)); err != nil {
		t.Fatal(err)
	}
	say(t, c, frame{kind: kindMessage, number: 1, length: 5}, []byte("hello"), frame{kind: kindAccept, number: 1})
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetLinger(0)
	_ = c.Close()
	if ev := waitEvent(t, tr, shuffle.EventMessage); string(ev.Header) != "hello" {
		t.Errorf("got %q", ev.Header)
	}
	if ev := waitEvent(t, tr, shuffle.EventPeerDown); !strings.Contains(ev.Err.Error(), "reset by peer") {
		t.Error(ev.Err)
	}
	if n, bytes := alloc.Live(); n != 0 {
		t.Errorf("%d bytes are not released", bytes)
	}
	b, err := alloc.Alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Payload: []*mem.Buffer{b}}}); err != nil {
		t.Error(err)
	}
}

// Close gives peers what was posted just before, and then its goodbye.
func TestCloseFlushes(t *testing.T) {
	for _, secure := range []bool{false, true} {
		alloc := mem.NewChecked(t, mem.Host())
		ts := connectRanks(t, 2, func(o *Options) { o.ForceTLS, o.Secret, o.CloseTimeout = secure, testSecret, 30*time.Second })
		want := bytes.Repeat([]byte("0123456789"), 500_000)
		for range 20 {
			b, err := alloc.Alloc(len(want))
			if err != nil {
				t.Fatal(err)
			}
			copy(b.Bytes(), want)
			err = ts[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Header: []byte("x"), Payload: []*mem.Buffer{b}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan error)
		go func() { closed <- ts[0].Close() }()
		got := 0
		for down := false; !down; {
			var events [3]shuffle.Event
			n, err := ts[1].Poll(events[:])
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events[:n] {
				switch ev.Kind {
				case shuffle.EventOffer:
					b, err := alloc.Alloc(int(ev.Size))
					if err != nil {
						t.Fatal(err)
					}
					err = ts[1].Post([]shuffle.Op{{Kind: shuffle.OpAccept, Cookie: ev.Cookie, Payload: []*mem.Buffer{b}}})
					if err != nil {
						t.Fatal(err)
					}
				case shuffle.EventMessage:
					if got++; !bytes.Equal(ev.Payload[0].Bytes(), want) {
						t.Error("the payload was changed")
					}
					link.ReleaseAll(ev.Payload)
				case shuffle.EventPeerDown:
					if down = true; !errors.Is(ev.Err, shuffle.ErrClosed) {
						t.Error(ev.Err)
					}
				}
			}
			if n == 0 {
				<-ts[1].Ready()
			}
		}
		if err := <-closed; err != nil || got != 20 {
			t.Errorf("%d messages arrived, %v", got, err)
		}
	}
}

// Close does not wait for a peer that takes nothing, whether or not that one lives, and two that close at once do
// not wait for each other.
func TestCloseIsBounded(t *testing.T) {
	post := func(tr *Transport, n int) {
		t.Helper()
		for range n {
			b, err := mem.Host().Alloc(1000)
			if err != nil {
				t.Fatal(err)
			}
			err = tr.Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1 - tr.Rank(), Header: make([]byte, shuffle.MaxHeader), Payload: []*mem.Buffer{b}}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	ts := connectRanks(t, 2, func(o *Options) { o.CloseTimeout, o.ReceiveBudget = 200*time.Millisecond, o.leastBudget() })
	post(ts[0], shuffle.MaxInFlight)
	start := time.Now()
	if err := ts[0].Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d < 200*time.Millisecond || d > 10*time.Second {
		t.Errorf("Close took %s", d)
	}
	ts = connectRanks(t, 2, func(o *Options) { o.CloseTimeout, o.ReceiveBudget = 20*time.Second, o.leastBudget() })
	post(ts[0], shuffle.MaxInFlight)
	post(ts[1], shuffle.MaxInFlight)
	start = time.Now()
	done := make(chan error)
	for _, tr := range ts {
		go func() { done <- tr.Close() }()
	}
	for range ts {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("Close of both took %s", d)
	}
}

// Wrong operations are errors, and the buffers are released.
func TestPostMisuse(t *testing.T) {
	alloc := mem.NewChecked(t, mem.Host())
	buffer := func(n int) []*mem.Buffer {
		b, err := alloc.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		return []*mem.Buffer{b}
	}
	ts := connectRanks(t, 2, nil)
	send := shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Payload: buffer(100)}
	if err := ts[0].Post([]shuffle.Op{send}); err != nil {
		t.Fatal(err)
	}
	offer := waitEvent(t, ts[1], shuffle.EventOffer)
	tooMany := make([]shuffle.Op, shuffle.MaxInFlight+1)
	for i := range tooMany {
		tooMany[i] = shuffle.Op{Kind: shuffle.OpSend, Payload: buffer(1)}
	}
	for want, ops := range map[string][]shuffle.Op{
		"accepts 100 bytes from rank 0 with buffers of 99": {{Kind: shuffle.OpAccept, Cookie: offer.Cookie, Payload: buffer(99)}},
		"operation of kind 9":                              {{Kind: 9, Payload: buffer(5)}},
		"header of 65537 bytes":                            {{Kind: shuffle.OpSend, Header: make([]byte, shuffle.MaxHeader+1)}},
		"more than 64 messages":                            tooMany,
		"device memory":                                    {{Kind: shuffle.OpSend, Payload: []*mem.Buffer{mem.NewDeviceBuffer(64, 10, nil)}}},
	} {
		if err := ts[1].Post(ops); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, should be about %q", err, want)
		}
	}
	// An answer to nothing is ignored.
	if err := ts[1].Post([]shuffle.Op{{Kind: shuffle.OpAccept, Cookie: 77, Payload: buffer(10)}}); err != nil {
		t.Error(err)
	}
	if err := ts[1].Post([]shuffle.Op{{Kind: shuffle.OpRefuse, Cookie: offer.Cookie}}); err != nil {
		t.Fatal(err)
	}
	for n := 0; n == 0; {
		<-ts[1].Ready()
		if k, err := ts[1].Poll(make([]shuffle.Event, 1)); k != 0 || err != nil {
			t.Fatal(k, err)
		}
		ts[1].hub.Lock()
		n = int(ts[1].peers[0].Polled())
		ts[1].hub.Unlock()
	}
	waitEvent(t, ts[0], shuffle.EventSent)
	if err := fmt.Sprint(ts[0].Post(tooMany[:0])); err != "<nil>" {
		t.Error(err)
	}
}

package tcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/internal/porch"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Ranks that were started with something else are refused by name, in one line, on both sides.
func TestMismatch(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(o *Options) // of rank 1
		rank0  string
		rank1  string
		quick  bool // both give up at once
	}{
		{"size", func(o *Options) { o.Addrs = append(o.Addrs[:2:2], "127.0.0.1:9") },
			"its job has 3 ranks, here it has 2", "its job has 2 ranks, here it has 3", true},
		{"spec", func(o *Options) { o.Spec = "other" },
			`its spec is "other", here it is "same"`, `its spec is "same", here it is "other"`, true},
		{"job", func(o *Options) { o.Job = "other" },
			`its job is "other", here it is "test"`, `its job is "test", here it is "other"`, false},
		{"epoch", func(o *Options) { o.Epoch = 7 },
			`its epoch is 7, here it is 0`, `its epoch is 0, here it is 7`, false},
		{"tls on one side", func(o *Options) { o.ForceTLS, o.Secret = true, testSecret },
			"it calls with TLS, here TLS is off", "it answers without TLS, here TLS is on", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			patience := 3 * time.Second
			if tc.quick {
				patience = 30 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			start := time.Now()
			_, errs := startRanks(t, ctx, 2, func(o *Options) {
				if o.Rank == 1 {
					tc.change(o)
				}
			})
			if tc.quick && (time.Since(start) > patience/2 || !errors.Is(errs[0], shuffle.ErrMismatch)) {
				t.Errorf("it took %s: %v", time.Since(start), errs[0])
			}
			for r, want := range []string{tc.rank0, tc.rank1} {
				wantLine(t, errs[r], want, fmt.Sprintf("rank %d ", r), "127.0.0.1:", "rank "+fmt.Sprint(1-r))
			}
		})
	}
	t.Run("tls on the other side", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, errs := startRanks(t, ctx, 2, func(o *Options) { o.ForceTLS, o.Secret = o.Rank == 0, testSecret })
		wantLine(t, errs[0], "it calls without TLS, here TLS is on")
		wantLine(t, errs[1], "it calls without TLS, here TLS is on")
	})
	t.Run("secret", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, errs := startRanks(t, ctx, 2, func(o *Options) {
			o.ForceTLS, o.Secret = true, append(bytes.Clone(testSecret), byte(o.Rank))
		})
		wantLine(t, errs[0], "rank 0 of 2 misses rank 1 at 127.0.0.1:", "from 127.0.0.1:", jobtls.ErrSecret.Error())
		wantLine(t, errs[1], "rank 1 and rank 0 at 127.0.0.1:", jobtls.ErrSecret.Error())
	})
	t.Run("version", func(t *testing.T) {
		g, l := listenAs(t, 0, 2)
		heard := make(chan error, 1)
		go func() { heard <- acceptOne(t, g, l) }()
		other := greeter{me: g.me, version: 2, timeout: time.Second, link: time.Second}
		other.me.rank = 1
		_, _, err := callAs(t, &other, l, 0)
		wantLine(t, err, "it speaks version 1 of the protocol, here it is 2")
		wantLine(t, <-heard, "it speaks version 2 of the protocol, here it is 1")
	})
	t.Run("addresses", func(t *testing.T) {
		g, l := listenAs(t, 1, 3)
		heard := make(chan error, 1)
		go func() { heard <- acceptOne(t, g, l) }()
		other := *g
		other.me.rank = 2
		_, _, err := callAs(t, &other, l, 0)
		wantLine(t, err, "it is rank 1; Addrs must be the same on all ranks")
		wantLine(t, <-heard, "it looks for rank 0, but this is rank 1; Addrs must be the same on all ranks")
	})
	t.Run("rank given twice", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, errs := startRanks(t, ctx, 3, func(o *Options) {
			if o.Rank == 2 {
				o.Rank = 1
			}
		})
		wantLine(t, errs[0], "rank 0 of 3 misses rank 2 at 127.0.0.1:", "another process is rank 1 of this job, at 127.0.0.1:")
		if a, b := fmt.Sprint(errs[1]), fmt.Sprint(errs[2]); !strings.Contains(a+b, "another process is rank 1 of this job") {
			t.Errorf("%s\n%s", a, b)
		}
	})
}

func wantLine(t *testing.T, err error, parts ...string) {
	t.Helper()
	text := fmt.Sprint(err)
	for _, p := range parts {
		if !strings.Contains(text, p) || strings.Contains(text, "\n") {
			t.Errorf("error is\n%s\nand should be one line with %q", text, p)
		}
	}
}

// listenAs returns what rank r of size greets with, and where.
func listenAs(t testing.TB, r, size int) (*greeter, *Listener) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &greeter{
		me:      hello{rank: r, size: size, window: 1 << 20, job: "test", spec: "same"},
		version: greetingVersion, timeout: 5 * time.Second, link: 5 * time.Second,
	}, l
}

func acceptOne(t testing.TB, g *greeter, l *Listener) error {
	c, err := accept(l.l)
	if err != nil {
		return err
	}
	conn, _, err := g.receive(t.Context(), c, func(int) *refusal { return nil })
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func callAs(t testing.TB, g *greeter, l *Listener, r int) (net.Conn, hello, error) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return g.call(t.Context(), c.(*net.TCPConn), r)
}

// Whoever is turned away hears why, however much more was said than is read: the connection ends in order, and is not reset.
func TestLastWords(t *testing.T) {
	for _, secure := range []bool{false, true} {
		g, l := listenAs(t, 0, 2)
		want, says := "calls with TLS", []byte("\x16\x03\x01\x00\x50")
		if secure {
			var err error
			if g.tls, err = identity(testSecret); err != nil {
				t.Fatal(err)
			}
			want, says = "calls without TLS", []byte(greetingMagic)
		}
		heard := make(chan error, 1)
		go func() { heard <- acceptOne(t, g, l) }()
		c, err := net.Dial("tcp", l.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(append(says, make([]byte, 1000)...)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(answer), want) {
			t.Errorf("got %q, %v", answer, err)
		}
		c.Close()
		wantLine(t, <-heard, want)
	}

	// One who does not go is not waited for.
	g, l := listenAs(t, 0, 2)
	heard := make(chan error, 1)
	go func() { heard <- acceptOne(t, g, l) }()
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x16\x03\x01\x00\x50 and")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	wantLine(t, <-heard, "calls with TLS")
	if took := time.Since(start); took > 8*lastWords {
		t.Errorf("it took %v", took)
	}
}

// The error names those who are missing.
func TestMissingRanks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const dead = "127.0.0.1:1" // which nobody is given who asks for any port
	_, err = Connect(ctx, Options{Rank: 1, Listener: l, Addrs: []string{dead, l.Addr(), "127.0.0.1:7777"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	wantLine(t, err, "rank 1 of 3 misses rank 0 at "+dead+" (connect: connection refused), "+
		"rank 2 at 127.0.0.1:7777 (never heard of)")
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was still open: %v", err)
	}
}

// Callers who say nothing do not keep ranks out, however many they are.
func TestMeetingInACrowd(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var crowd []net.Conn
		there := make(chan struct{})
		var lines atomic.Int32
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // less than a greeting may take
		_, errs := startRanks(t, ctx, 3, func(o *Options) {
			o.ForceTLS, o.Secret = secure, testSecret
			if o.Rank > 0 {
				<-there
				return
			}
			defer close(there)
			o.Log = func(line string) {
				if lines.Add(1); !strings.Contains(line, porch.ErrSentAway.Error()) {
					t.Errorf("%s", line)
				}
			}
			for range 3 * moreCallers {
				c, err := net.Dial("tcp", o.Addrs[0])
				if err != nil {
					t.Error(err)
					return
				}
				crowd = append(crowd, c)
			}
		})
		cancel()
		if err := errors.Join(errs...); err != nil || lines.Load() < moreCallers {
			t.Errorf("%d were sent away, %v", lines.Load(), err)
		}
		for _, c := range crowd {
			c.Close()
		}
	}
}

// Wrong options are refused before anything is tried, all of them in one error.
func TestValidate(t *testing.T) {
	_, err := Connect(t.Context(), Options{
		Job: strings.Repeat("x", 256), Spec: strings.Repeat("x", 5000), Rank: 2, Addrs: []string{"127.0.0.1:1", "nowhere"},
		Secret: []byte("short"), ReceiveBudget: 1, LinkTimeout: -1,
	})
	for _, want := range []string{"Job", "Spec", "Rank is 2", `"nowhere" for rank 1`, "Secret has 5 bytes", "at least 131072", "LinkTimeout"} {
		if !strings.Contains(fmt.Sprint(err), "tcp: Options.") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{Addrs: []string{"10.0.0.1:99"}}, "the address 10.0.0.1:99 of rank 0 is not a loopback address"},
		{Options{Addrs: []string{"127.0.0.1:99", "node7:99"}, Rank: 1}, "the address node7:99 of rank 1 is not a loopback address"},
		{Options{Addrs: []string{"localhost:99"}, ForceTLS: true}, "ForceTLS is set"},
	} {
		_, err := Connect(t.Context(), tc.o)
		wantLine(t, err, "Options.Secret is missing, but "+tc.want, "openssl rand -hex 32")
	}
	all, err := Listen("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(all.Addr())
	_, err = Connect(t.Context(), Options{Addrs: []string{"127.0.0.1:" + port, "127.0.0.1:99"}, Listener: all})
	wantLine(t, err, "rank 0 listens at "+all.Addr()+", which is not a loopback address")
	// One rank needs nothing.
	tr, err := Connect(t.Context(), Options{Addrs: []string{"127.0.0.1:99"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = tr.Close()
}

// Whoever else connects while ranks meet does not keep them from it, gets nothing, and is gone soon.
func TestStrangers(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secure), func(t *testing.T) { testStrangers(t, secure) })
	}
}

func testStrangers(t *testing.T, secure bool) {
	huge := append(greeting(greetingVersion, greetingHello, nil)[:12], 0xff, 0xff, 0xff, 0x7f)
	bent := greeting(greetingVersion, greetingHello, make([]byte, 100))
	bent[50] ^= 1
	says := [][]byte{
		nil,
		[]byte("GET / HTTP/1.1\r\nHost: rank0\r\n\r\n"),
		[]byte("\x16\x03\x01\x02\x00garbage that begins like TLS, and then is none"),
		bytes.Repeat([]byte{0}, 1000),
		huge,
		bent,
		greeting(greetingVersion, greetingVerdict, []byte("x")),
		greeting(greetingVersion, 77, nil),
		greeting(greetingVersion, greetingHello, make([]byte, helloFixed)),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var listeners []*Listener
	var addrs []string
	for range 2 {
		l, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners, addrs = append(listeners, l), append(addrs, l.Addr())
	}
	lines := make(chan string, 100)
	options := func(r int) Options {
		return Options{
			Rank: r, Addrs: addrs, Listener: listeners[r], HandshakeTimeout: 200 * time.Millisecond,
			ForceTLS: secure, Secret: testSecret,
			Log: func(line string) { lines <- line },
		}
	}
	met := make(chan error, 2)
	var ts [2]*Transport
	meet := func(r int) {
		var err error
		ts[r], err = Connect(ctx, options(r))
		met <- err
	}
	go meet(0)
	var wg sync.WaitGroup
	for _, s := range says {
		wg.Go(func() {
			c, err := net.Dial("tcp", addrs[0])
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = c.Write(s) // it may have been turned away already
			// The silent one is let go when its time is over, the others at once or then.
			answer, err := io.ReadAll(c)
			if len(answer) > 4<<10 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%.20q: got %d bytes, %v", s, len(answer), err)
			}
		})
	}
	wg.Wait()
	for range says {
		select {
		case line := <-lines:
			if !strings.HasPrefix(line, "tcp: rank 0 turned away a caller from 127.0.0.1:") || strings.Contains(line, "\n") {
				t.Errorf("line %q", line)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a stranger was not noticed")
		}
	}
	go meet(1)
	for range 2 {
		if err := <-met; err != nil {
			t.Fatal(err)
		}
	}
	defer ts[1].Close()
	defer ts[0].Close()
	for r, l := range listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("rank %d still listened: %v", r, err)
		}
	}
	if err := ts[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Header: []byte("hi")}}); err != nil {
		t.Fatal(err)
	}
	if ev := waitEvent(t, ts[1], shuffle.EventMessage); string(ev.Header) != "hi" {
		t.Errorf("got %q", ev.Header)
	}
}

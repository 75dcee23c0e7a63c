//go:build ucx && cgo

package ucx

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// buffers makes some, of which the test finds out if they are not released.
func buffers(t testing.TB, sizes ...int) (list []*mem.Buffer) {
	t.Helper()
	alloc := mem.NewChecked(t, mem.Host())
	for _, n := range sizes {
		b, err := alloc.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func post(t testing.TB, tr *Transport, ops ...shuffle.Op) {
	t.Helper()
	if err := tr.Post(ops); err != nil {
		t.Fatal(err)
	}
}

func postBytes(t testing.TB, tr *Transport, to int, sizes ...int) {
	t.Helper()
	post(t, tr, shuffle.Op{Kind: shuffle.OpSend, Peer: to, Header: []byte("x"), Payload: buffers(t, sizes...)})
}

// Payloads whose pieces end at other places at the two ends arrive as they were, whatever their sizes.
func TestPieces(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		ts := connectRanks(t, way, 2, nil)
		for i, tc := range []struct{ from, to []int }{
			{[]int{1 << 20}, []int{1 << 20}},
			{[]int{100_000, 1, 70_000, 30_000}, []int{3, 99_998, 50_000, 50_000}},
			{[]int{20 << 20}, []int{9 << 20, 11 << 20}},
			{[]int{1, 1, 1, 9000}, []int{9001, 2}},
			{[]int{8000}, []int{1, 7999}},
		} {
			op := shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Header: []byte{byte(i)}, Payload: buffers(t, tc.from...)}
			var want []byte
			for j, b := range op.Payload {
				for k := range b.Bytes() {
					b.Bytes()[k] = byte(k*31 + k>>11 + j)
				}
				want = append(want, b.Bytes()...)
			}
			post(t, ts[0], op)
			ev := waitEvent(t, ts[1], shuffle.EventOffer)
			post(t, ts[1], shuffle.Op{Kind: shuffle.OpAccept, Cookie: ev.Cookie, Payload: buffers(t, tc.to...)})
			ev = waitEvent(t, ts[1], shuffle.EventMessage)
			var got []byte
			for _, b := range ev.Payload {
				got = append(got, b.Bytes()...)
				b.Release()
			}
			if !bytes.Equal(got, want) {
				t.Errorf("case %d was changed", i)
			}
			if n, err := ts[1].Poll(make([]shuffle.Event, 1)); n != 0 || err != nil {
				t.Error(n, err)
			}
			waitEvent(t, ts[0], shuffle.EventSent)
		}
	})
}

// Close gives peers what was posted just before, and then its goodbye.
func TestCloseFlushes(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		ts := connectRanks(t, way, 2, func(o *Options) { o.CloseTimeout = 30 * time.Second })
		const each = 20
		for i := range each {
			postBytes(t, ts[0], 1, 10+i%2*5_000_000)
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
					post(t, ts[1], shuffle.Op{Kind: shuffle.OpAccept, Cookie: ev.Cookie, Payload: buffers(t, int(ev.Size))})
				case shuffle.EventMessage:
					got++
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
		if err := <-closed; err != nil || got != each {
			t.Errorf("%d messages arrived, %v", got, err)
		}
	})
}

// Close does not wait for a peer that takes nothing, and two that close at once do not wait for each other.
func TestCloseIsBounded(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		fill := func(tr *Transport) {
			for range shuffle.MaxInFlight {
				post(t, tr, shuffle.Op{Kind: shuffle.OpSend, Peer: 1 - tr.Rank(), Header: make([]byte, shuffle.MaxHeader), Payload: buffers(t, 1000)})
			}
		}
		ts := connectRanks(t, way, 2, func(o *Options) { o.CloseTimeout, o.ReceiveBudget = 200*time.Millisecond, o.leastBudget() })
		fill(ts[0])
		start := time.Now()
		_ = ts[0].Close()
		if d := time.Since(start); d < 200*time.Millisecond || d > 15*time.Second {
			t.Errorf("Close took %s", d)
		}
		ts = connectRanks(t, way, 2, func(o *Options) { o.CloseTimeout, o.ReceiveBudget = 20*time.Second, o.leastBudget() })
		fill(ts[0])
		fill(ts[1])
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
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("both closed after %s", d)
		}
	})
}

// A rank in which nothing happens uses no processor.
func TestIdle(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		connectRanks(t, way, 3, nil)
		runtime.GC()
		<-time.After(100 * time.Millisecond)
		used := func() time.Duration {
			var u unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
				t.Fatal(err)
			}
			return time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		before := used()
		const span = 3 * time.Second
		<-time.After(span)
		cpu := used() - before
		t.Logf("%v of processor time in %v, for 3 ranks", cpu, span)
		if cpu > span*3/100 {
			t.Errorf("%v of processor time in %v", cpu, span)
		}
	})
}

// Ranks that were started with something else are told so, on both sides.
func TestMeetingMismatch(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		for name, tc := range map[string]struct {
			change func(o *Options)
			text   string
		}{
			"job":   {func(o *Options) { o.Job = "other" }, "its job is"},
			"epoch": {func(o *Options) { o.Epoch = 7 }, "its epoch is"},
			"spec":  {func(o *Options) { o.Spec = "another" }, "its spec is"},
		} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				_, errs := startRanks(t, ctx, way, 2, func(o *Options) {
					if o.Rank == 1 {
						tc.change(o)
					}
				})
				for r, err := range errs {
					if !errors.Is(err, shuffle.ErrMismatch) || !strings.Contains(err.Error(), tc.text) ||
						!strings.Contains(err.Error(), fmt.Sprintf("rank %d", 1-r)) {
						t.Errorf("rank %d: %v", r, err)
					}
				}
				if d := time.Since(start); d > 15*time.Second {
					t.Errorf("it took %s", d)
				}
			})
		}
	})
}

// A rank with another secret is nobody: the others go on waiting, and say so in the end.
func TestMeetingSecret(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, errs := startRanks(t, ctx, way, 3, func(o *Options) {
			if o.Rank == 1 {
				o.Secret = []byte("another secret, just as long 123")
			}
		})
		// They give up at one time, so that some may see another go before their own time has come.
		said := false
		for r, err := range errs {
			late := errors.Is(err, context.DeadlineExceeded)
			if err == nil || !late && !strings.Contains(err.Error(), fmt.Sprintf("rank %d does not reach rank ", r)) {
				t.Errorf("rank %d: %v", r, err)
			}
			if late {
				said = true
				if text := err.Error(); !strings.Contains(text, "another secret") || r != 1 && !strings.Contains(text, "misses rank 1;") {
					t.Errorf("rank %d: %v", r, err)
				}
			}
		}
		if !said {
			t.Errorf("nobody says who is missing: %v", errs)
		}
	})
}

// Addresses that are of something else are refused before anything is done with them.
func TestMeetingAddresses(t *testing.T) {
	junk := addressPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, nonceSize))
	for name, tc := range map[string]struct {
		addr, text string
	}{
		"tcp":       {"127.0.0.1:5000", "all ranks must use the same transport"},
		"version":   {"ucx9:AAAA", "it speaks version 9"},
		"no base64": {addressPrefix + "?", "is damaged"},
		"too short": {junk, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := contexts["shm"].Listen()
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Connect(t.Context(), Options{Addrs: []string{p.Addr(), tc.addr}})
			if !errors.Is(err, shuffle.ErrMismatch) || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), "rank 1") {
				t.Error(err)
			}
		})
	}
	p, err := contexts["shm"].Listen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Connect(t.Context(), Options{Addrs: []string{p.Addr(), p.Addr()}}); !errors.Is(err, shuffle.ErrMismatch) {
		t.Error(err)
	}
}

// What stands in for UCX and is none, or an older one, is refused with a line.
func TestLibrary(t *testing.T) {
	for _, path := range []string{"/does/not/exist", "/dev/null"} {
		if err := loadFrom(path); err != nil {
			t.Errorf("a second library was loaded in place of the first: %v", err) // it is not looked at
		}
	}
	t.Setenv(LibraryVariable, t.TempDir())
	if list := places(""); len(list) != 1 || !strings.HasSuffix(list[0], "/"+libraryName) || !strings.HasPrefix(list[0], os.Getenv(LibraryVariable)) {
		t.Error(list)
	}
	t.Setenv(LibraryVariable, "")
	if list := places(""); len(list) == 0 {
		t.Error("nowhere to look")
	}
}

package netlab

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newLab makes a network, or skips the test, loudly, where none can be made.
func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	l, err := New(o)
	if errors.Is(err, ErrCannot) {
		t.Skipf("NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// serve has a leaf send back what it is sent, and returns its address.
func serve(t *testing.T, l *Lab, leaf int) string {
	t.Helper()
	var s net.Listener
	err := l.leaves[leaf].do(func() (err error) {
		s, err = net.Listen("tcp4", l.Addr(leaf)+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return s.Addr().String()
}

// talk sends so many bytes to an echo and reads them, and returns how long that took.
func talk(t *testing.T, l *Lab, from int, addr string, bytes int, limit time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	c, err := l.Dial(ctx, from, addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(start.Add(limit))
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, bytes))
		sent <- err
	}()
	_, err = io.ReadFull(c, make([]byte, bytes))
	return time.Since(start), errors.Join(err, <-sent)
}

func TestLab(t *testing.T) {
	for _, long := range []bool{false, true} {
		name := map[bool]string{false: "short", true: "long"}[long]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, Options{Leaves: 3, Long: long})
			addr := serve(t, l, 2)
			const bytes = 1 << 20
			before, err := l.Received(2)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := talk(t, l, 0, addr, bytes, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			sent, err1 := l.Sent(0)
			received, err2 := l.Received(2)
			if err := errors.Join(err1, err2); err != nil || sent < bytes || received-before < bytes {
				t.Errorf("sent %d, received %d of %d, %v", sent, received-before, bytes, err)
			}
			if ports, err := l.Listening(2); err != nil || len(ports) != 1 || !strings.HasSuffix(addr, ":"+strconv.Itoa(ports[0])) {
				t.Errorf("ports %v of %s, %v", ports, addr, err)
			}
			// A program is where it was started.
			cmd := exec.Command("ip", "-brief", "addr", "show", inner)
			out := &strings.Builder{}
			cmd.Stdout = out
			if err := errors.Join(l.Start(1, cmd), cmd.Wait()); err != nil || !strings.Contains(out.String(), l.Addr(1)+"/24") {
				t.Errorf("%q, %v", out, err)
			}
			if err := l.Cut(2); err != nil {
				t.Fatal(err)
			}
			if _, err := talk(t, l, 0, addr, 1, 300*time.Millisecond); err == nil {
				t.Error("the link is not cut")
			}
			if err := l.Mend(2); err != nil {
				t.Fatal(err)
			}
			if _, err := talk(t, l, 0, addr, 1, 10*time.Second); err != nil {
				t.Errorf("the link is not mended: %v", err)
			}
			if err := l.Part(0, 2); err != nil {
				t.Fatal(err)
			}
			if _, err := talk(t, l, 0, addr, 1, 300*time.Millisecond); err == nil {
				t.Error("0 and 2 are not parted")
			}
			if _, err := talk(t, l, 1, addr, 1, 10*time.Second); err != nil {
				t.Errorf("1 and 2 are parted too: %v", err)
			}
			if err := l.Join(0, 2); err != nil {
				t.Fatal(err)
			}
			if _, err := talk(t, l, 0, addr, 1, 10*time.Second); err != nil {
				t.Errorf("0 and 2 are still parted: %v", err)
			}
			if err := l.Rate(2, 16e6); err != nil {
				t.Fatal(err)
			}
			if took, err := talk(t, l, 0, addr, 2<<20, 20*time.Second); err != nil || took < 600*time.Millisecond {
				t.Errorf("2 MiB at 2 MB/s took %v, %v", took, err)
			}
			if err := l.Rate(2, 0); err != nil {
				t.Fatal(err)
			}
			if !long {
				return
			}
			l.Delay(2, 50*time.Millisecond)
			if took, err := talk(t, l, 0, addr, 1, 10*time.Second); err != nil || took < 190*time.Millisecond {
				t.Errorf("a connection and a byte, two round trips of 100 ms, took %v, %v", took, err)
			}
			l.Delay(2, 0)
			l.Lose(2, 50_000)
			if _, err := talk(t, l, 0, addr, bytes, 30*time.Second); err != nil || l.Lost(2) < 5 {
				t.Errorf("%d packets were lost, %v", l.Lost(2), err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, n := range []int{-1, 0, 201} {
		if _, err := New(Options{Leaves: n}); err == nil || errors.Is(err, ErrCannot) {
			t.Errorf("%d leaves: %v", n, err)
		}
	}
}

package faulty_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/faulty"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

func TestSpec(t *testing.T) {
	for _, spec := range []string{
		"", "duplicate=10%", "reorder=0.5%, delay=100%:3ms\ncorrupt@2=#7", "drop=#1 failpost@0=#4 kill@1=40%",
	} {
		ts, err := faulty.Wrap(inproc.New(1, inproc.Options{}), spec, 1)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		ts[0].Close()
	}
	for spec, want := range map[string]string{
		"duplicate": "name=when", "explode=1%": "no such fault", "drop@x=#1": "no rank", "drop@-1=#1": "no rank",
		"drop=5": "5%", "drop=#0": "number from 1", "drop=101%": "5%", "drop=#1:3ms": "only delay", "delay=1%:fast": "no time",
	} {
		if _, err := faulty.Wrap(nil, spec, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, should contain %q", spec, err, want)
		}
	}
}

// exchange sends n messages from rank 0 to rank 1 and returns what arrives there until nothing does for a
// while, and why the link went down, if it did.
func exchange(t *testing.T, spec string, n int) (got []string, down error) {
	t.Helper()
	alloc := mem.NewChecked(t, mem.Host())
	ts, err := faulty.Wrap(inproc.New(2, inproc.Options{}), spec, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ts[0].Close()
		ts[1].Close()
	})
	for i := range n {
		b, err := alloc.Alloc(100)
		if err != nil {
			t.Fatal(err)
		}
		clear(b.Bytes())
		op := shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Header: fmt.Appendf(nil, "%03d", i), Payload: []*mem.Buffer{b}}
		if err := ts[0].Post([]shuffle.Op{op}); err != nil {
			return got, err
		}
	}
	var events [8]shuffle.Event
	for {
		k, err := ts[1].Poll(events[:])
		if err != nil {
			return got, err
		}
		for _, ev := range events[:k] {
			switch ev.Kind {
			case shuffle.EventMessage:
				text := string(ev.Header)
				for _, v := range ev.Payload[0].Bytes() {
					if v != 0 {
						text += " bent"
					}
				}
				got = append(got, text)
				ev.Payload[0].Release()
			case shuffle.EventPeerDown:
				down = ev.Err
			}
		}
		if k > 0 {
			continue
		}
		select {
		case <-ts[1].Ready():
		case <-time.After(300 * time.Millisecond): // much longer than what is delayed
			return got, down
		}
	}
}

func TestFaults(t *testing.T) {
	var want []string
	for i := range 60 {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	count := func(got []string) map[string]int {
		m := make(map[string]int)
		for _, g := range got {
			m[g]++
		}
		return m
	}
	inOrder := func(got []string) bool { return fmt.Sprint(got) == fmt.Sprint(want) }
	t.Run("none", func(t *testing.T) {
		if got, down := exchange(t, "", 60); !inOrder(got) || down != nil {
			t.Error(got, down)
		}
	})
	t.Run("duplicate", func(t *testing.T) {
		got, down := exchange(t, "duplicate=100%", 60)
		for _, w := range want {
			if count(got)[w] != 2 {
				t.Fatal(got)
			}
		}
		if len(got) != 120 || down != nil {
			t.Error(got, down)
		}
	})
	t.Run("reorder", func(t *testing.T) {
		got, down := exchange(t, "reorder=50%", 60)
		if len(count(got)) != 60 || len(got) != 60 || inOrder(got) || down != nil {
			t.Error(got, down)
		}
	})
	t.Run("delay", func(t *testing.T) {
		start := time.Now()
		got, down := exchange(t, "delay=#5:30ms", 60)
		if !inOrder(got) || down != nil || time.Since(start) < 30*time.Millisecond {
			t.Error(got, down, time.Since(start))
		}
	})
	t.Run("corrupt", func(t *testing.T) {
		got, down := exchange(t, "corrupt=#5", 60)
		different := 0
		for i := range got {
			if got[i] != want[i] {
				different++
			}
		}
		if len(got) != 60 || different != 1 || got[4] == want[4] || down != nil {
			t.Error(got, down)
		}
	})
	t.Run("drop", func(t *testing.T) {
		got, down := exchange(t, "drop@1=#5", 60)
		if !errors.Is(down, faulty.ErrLost) || fmt.Sprint(got) != fmt.Sprint(want[:4]) {
			t.Error(got, down)
		}
	})
	t.Run("kill", func(t *testing.T) {
		if got, err := exchange(t, "kill@1=#5", 60); !errors.Is(err, faulty.ErrKilled) || len(got) > 4 {
			t.Error(got, err)
		}
	})
	t.Run("failpost", func(t *testing.T) {
		if got, err := exchange(t, "failpost@0=#5", 60); !errors.Is(err, faulty.ErrPost) {
			t.Error(got, err)
		}
	})
	t.Run("another rank", func(t *testing.T) {
		if got, down := exchange(t, "drop@0=#1 kill@0=#1 failpost@1=#1", 60); !inOrder(got) || down != nil {
			t.Error(got, down)
		}
	})
}

// The same seed strikes the same messages.
func TestSeed(t *testing.T) {
	a, _ := exchange(t, "duplicate=30% corrupt=20%", 60)
	b, _ := exchange(t, "duplicate=30% corrupt=20%", 60)
	bent := func(got []string) (n int) {
		for _, g := range got {
			if len(g) != 3 {
				n++
			}
		}
		return n
	}
	if len(a) != len(b) || bent(a) != bent(b) || len(a) == 60 {
		t.Errorf("%d and %d messages, %d and %d bent", len(a), len(b), bent(a), bent(b))
	}
}

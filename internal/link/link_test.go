package link

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// end is one end of a link whose other end is in the same test: what a transport does, without a network.
type end struct {
	hub *Hub
	*Link
}

func newPair(inline int) (a, b *end) {
	const window = 2 * shuffle.MaxHeader
	make := func(rank int) *end {
		h := NewHub(Config{Name: "test", Rank: rank, Size: 2, Window: window, Inline: inline})
		return &end{h, h.Add(1-rank, window, func() {})}
	}
	return make(0), make(1)
}

// carry does everything that a transport would do from a to b, and tells a what b said.
func carry(t *testing.T, a, b *end) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := a.NextAnnounce(); n > 0; n = a.NextAnnounce() {
		m := a.Out(n)
		inline := 0
		if m.Inline {
			inline = int(m.Size)
		}
		memory, err := b.Arrive(n, len(m.Frame), inline)
		check(err)
		at := copy(memory, m.Frame)
		if m.Inline {
			for _, p := range m.Payload {
				at += copy(memory[at:], p.Bytes())
			}
			a.Spend(m)
		}
		b.Enter(n, memory, len(m.Frame), m.Size)
	}
	for _, r := range b.Answers {
		answer := Refused
		if r.Accepted {
			answer = Accepted
		}
		drop, err := a.Answered(r.Number, answer, nil)
		check(err)
		ReleaseAll(drop)
	}
	b.Answers = b.Answers[:0]
	for ; a.Paid < a.Announced; a.Paid++ {
		m := a.Out(a.Paid + 1)
		if m.Size > 0 && !m.Inline && m.Answer == Unanswered {
			break
		}
		if m.Answer == Accepted {
			var all []byte
			for _, p := range m.Payload {
				all = append(all, p.Bytes()...)
			}
			for _, p := range b.In(a.Paid + 1).Payload {
				all = all[copy(p.Bytes(), all):]
			}
			b.Complete(a.Paid + 1)
			a.Spend(m)
		}
	}
	ReleaseAll(a.Spent)
	a.Spent = a.Spent[:0]
	if n := b.Tell(); n > 0 {
		check(a.Taken(n))
	}
	a.Settle()
}

// Messages of all shapes arrive once, whole and in order, whatever the order in which things are done, and the credit comes back.
func TestLife(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		alloc := mem.NewChecked(t, mem.Host())
		a, b := newPair([]int{0, 500}[seed%2])
		credit := a.Credit
		var want []byte // of messages that are not refused
		posted, sent, got, refused := 0, 0, 0, 0
		for sent < 300 {
			if posted < 300 && posted-sent < shuffle.MaxInFlight && rng.IntN(2) == 0 {
				op := shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Cookie: uint64(posted), Header: make([]byte, 1+rng.IntN(3000))}
				op.Header[0] = byte(posted)
				for range rng.IntN(3) {
					p, err := alloc.Alloc(1 + rng.IntN(400))
					if err != nil {
						t.Fatal(err)
					}
					for i := range p.Bytes() {
						p.Bytes()[i] = byte(posted)
					}
					op.Payload = append(op.Payload, p)
				}
				if err := a.hub.Post([]shuffle.Op{op}); err != nil {
					t.Fatal(err)
				}
				want = append(want, byte(posted))
				posted++
			}
			if rng.IntN(2) == 0 {
				a.hub.Lock()
				b.hub.Lock()
				carry(t, a, b)
				b.hub.Unlock()
				a.hub.Unlock()
			}
			var events [3]shuffle.Event
			n, err := b.hub.Poll(events[:rng.IntN(4)])
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events[:n] {
				switch ev.Kind {
				case shuffle.EventOffer:
					answer := shuffle.Op{Kind: shuffle.OpRefuse, Peer: 0, Cookie: ev.Cookie}
					if rng.IntN(4) > 0 {
						p, err := alloc.Alloc(int(ev.Size))
						if err != nil {
							t.Fatal(err)
						}
						answer.Kind, answer.Payload = shuffle.OpAccept, []*mem.Buffer{p}
					} else {
						refused++
						for i := got; i < len(want); i++ {
							if want[i] == ev.Header[0] {
								want = append(want[:i], want[i+1:]...)
								break
							}
						}
					}
					if err := b.hub.Post([]shuffle.Op{answer}); err != nil {
						t.Fatal(err)
					}
				case shuffle.EventMessage:
					if ev.Header[0] != want[got] {
						t.Fatalf("seed %d: message %d came as number %d", seed, want[got], got)
					}
					for _, p := range ev.Payload {
						for _, c := range p.Bytes() {
							if c != want[got] {
								t.Fatalf("seed %d: the payload of message %d was changed", seed, want[got])
							}
						}
						p.Release()
					}
					got++
				}
			}
			if n, err = a.hub.Poll(events[:]); err != nil {
				t.Fatal(err)
			}
			for _, ev := range events[:n] {
				if ev.Kind != shuffle.EventSent || ev.Cookie != uint64(sent) {
					t.Fatalf("seed %d: event %+v instead of confirmation %d", seed, ev, sent)
				}
				sent++
			}
		}
		if got+refused != 300 || a.Credit != credit || b.Headers.Held() > 4*shuffle.MaxHeader {
			t.Errorf("seed %d: %d messages, %d refused, credit %d of %d", seed, got, refused, a.Credit, credit)
		}
	}
}

// What breaks the rules is an error that says so.
func TestRules(t *testing.T) {
	a, b := newPair(500)
	memory, err := b.Arrive(1, 100, 200)
	if err != nil {
		t.Fatal(err)
	}
	b.Enter(1, memory, 100, 200)
	offer := []shuffle.Event{{}}
	if n, err := b.hub.Poll(offer); n != 1 || err != nil || offer[0].Kind != shuffle.EventOffer {
		t.Fatal(n, err)
	}
	device := mem.NewDeviceBuffer(64, 200, nil)
	if err := b.hub.Post([]shuffle.Op{{Kind: shuffle.OpAccept, Peer: 0, Cookie: offer[0].Cookie, Payload: []*mem.Buffer{device}}}); err == nil {
		t.Error("a payload that is here was accepted into a device")
	}
	for name, f := range map[string]func() error{
		"left out":         func() error { _, err := b.Arrive(3, 1, 0); return err },
		"again":            func() error { _, err := b.Arrive(1, 1, 0); return err },
		"too long":         func() error { _, err := b.Arrive(2, shuffle.MaxHeader, 1); return err },
		"taken too early":  func() error { return a.Taken(1) },
		"answer to none":   func() error { _, err := a.Answered(1, Accepted, nil); return err },
		"answer to inline": func() error { _, err := a.Answered(0, Refused, nil); return err },
	} {
		if err := f(); !errors.Is(err, shuffle.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Arrive(2, shuffle.MaxHeader, 0); err != nil {
		t.Fatal(err)
	}
	b.Received = 2
	if _, err := b.Arrive(3, shuffle.MaxHeader, 0); !errors.Is(err, shuffle.ErrProtocol) {
		t.Errorf("beyond the credit: %v", err)
	}
}

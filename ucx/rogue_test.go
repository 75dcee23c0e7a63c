//go:build ucx && cgo

package ucx

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// rogue is rank 1 of 2, which says what a test likes: a transport that is not run.
type rogue struct {
	*Transport
	p *peer
}

// meetRogue returns rank 0 after the hellos, and the rogue. They must be closed with the result.
func meetRogue(t testing.TB, change func(o *Options)) (*Transport, *rogue, func()) {
	t.Helper()
	var ports [2]*Port
	var addrs []string
	for r := range ports {
		var err error
		if ports[r], err = contexts["shm"].Listen(); err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, ports[r].Addr())
	}
	o := Options{Rank: 1, Addrs: addrs, Secret: testSecret}
	o.EnsureDefaults()
	parsed, err := parseAddresses(&o)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := newTransport(ports[1], o, parsed)
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{rt, rt.peers[0]}
	r.hub.Lock()
	r.p.work() // hello
	r.hub.Unlock()
	connected := make(chan error, 1)
	var tr *Transport
	go func() {
		o := Options{Rank: 0, Addrs: addrs, Secret: testSecret}
		if change != nil {
			change(&o)
		}
		var err error
		tr, err = ports[0].Connect(context.Background(), o)
		connected <- err
	}()
	for {
		r.turn()
		select {
		case err := <-connected:
			if err != nil {
				t.Fatal(err)
			}
			return tr, r, func() {
				go func() { _ = tr.Close() }()
				for over := false; !over; {
					r.turn()
					select {
					case <-tr.done:
						over = true
					case <-time.After(time.Millisecond):
					}
				}
				_ = tr.Close()
				r.meeting = false
				r.shut()
			}
		default:
		}
	}
}

// turn sends what was said and throws away what has come.
func (r *rogue) turn() {
	n, err := r.w.round(r.ops, r.events, 0)
	if err != nil {
		panic(err)
	}
	r.ops = r.ops[:0]
	for _, e := range r.events[:n] {
		if e.kind == evMessage {
			r.ops = append(r.ops, op{kind: opRelease, addr: e.addr, owner: e.owner})
		}
	}
}

// say sends bytes as an active message.
func (r *rogue) say(b []byte) {
	k := r.blocks.take(len(b))
	copy(k.bytes, b)
	i := r.slot(slot{p: r.p, kind: opMessage, block: k})
	r.ops = append(r.ops, op{kind: opMessage, addr: addressOf(k.bytes), len: uint64(len(b)), slot: i})
	r.turn()
}

// build encodes a frame with lengths and a body of zeros.
func build(f frame, lengths ...int64) []byte {
	f.pieces = uint32(len(lengths))
	b := make([]byte, f.whole())
	for i, n := range lengths {
		binary.LittleEndian.PutUint64(b[frameHead+8*i:], uint64(n))
	}
	f.encode(b)
	return b
}

// frame makes one of rank 1's to rank 0.
func (r *rogue) build(f frame, lengths ...int64) []byte {
	f.rank, f.token = 1, r.p.tokenOut
	return build(f, lengths...)
}

// A peer that breaks the protocol is down, once, with a reason, and nothing leaks.
func TestMisbehaviour(t *testing.T) {
	message := func(n uint64, length uint32) frame { return frame{kind: kindMessage, number: n, length: length} }
	paid := func(n, size uint64) frame { return frame{kind: kindMessage, number: n, size: size} }
	inline := func(n, size uint64) frame { return frame{kind: kindMessage, number: n, size: size, inline: true} }
	flip := func(i int) func(b []byte) []byte { return func(b []byte) []byte { b[i] ^= 0x10; return b } }
	type said struct {
		frame
		lengths []int64
		bend    func(b []byte) []byte
	}
	one := func(f frame, lengths ...int64) []said { return []said{{f, lengths, nil}} }
	var many []said
	for n := range uint64(shuffle.MaxInFlight + 1) {
		many = append(many, said{frame: message(n+1, 0)})
	}
	for name, tc := range map[string]struct {
		say  []said
		want error
		text string
	}{
		"flipped bit":          {[]said{{message(1, 0), nil, flip(26)}}, shuffle.ErrCorrupt, "checksum"},
		"flipped in checksum":  {[]said{{message(1, 0), nil, flip(45)}}, shuffle.ErrCorrupt, "checksum"},
		"flipped in lengths":   {[]said{{paid(1, 9000), []int64{9000}, flip(50)}}, shuffle.ErrCorrupt, "checksum"},
		"cut off":              {[]said{{message(1, 100), nil, func(b []byte) []byte { return b[:100] }}}, shuffle.ErrProtocol, "makes no sense"},
		"unknown kind":         {one(frame{kind: 99}), shuffle.ErrProtocol, "kind 99"},
		"kind 0":               {one(frame{}), shuffle.ErrProtocol, "kind 0"},
		"header too long":      {one(message(1, shuffle.MaxHeader+1)), shuffle.ErrProtocol, "makes no sense"},
		"lengths do not add":   {one(paid(1, 5), 2, 2), shuffle.ErrProtocol, "makes no sense"},
		"an empty piece":       {one(paid(1, 5), 5, 0), shuffle.ErrProtocol, "makes no sense"},
		"payload of no length": {one(paid(1, 5)), shuffle.ErrProtocol, "makes no sense"},
		"payload too long":     {one(paid(1, 1<<51), 1<<51), shuffle.ErrProtocol, "makes no sense"},
		"inline too long":      {one(inline(1, inlineMost+1)), shuffle.ErrProtocol, "makes no sense"},
		"message left out":     {one(message(2, 0)), shuffle.ErrProtocol, "message 2 follows message 0"},
		"message again":        {append(one(message(1, 0)), one(message(1, 0))...), shuffle.ErrProtocol, "message 1 follows message 1"},
		"too many":             {many, shuffle.ErrProtocol, "more than 64 messages"},
		"answer to nothing":    {one(frame{kind: kindAccept, number: 1}, 5), shuffle.ErrProtocol, "message 1, which has 0"},
		"refusal of nothing":   {one(frame{kind: kindRefuse, number: 1 << 60}), shuffle.ErrProtocol, "not offered"},
		"took what was not":    {one(frame{kind: kindTaken, number: 1}), shuffle.ErrProtocol, "took message 1 of 0"},
		"goodbye of the wrong": {one(frame{kind: kindBye, number: 3}), shuffle.ErrProtocol, "0 have arrived"},
		"goodbye too early":    {append(one(paid(1, 9000), 9000), one(frame{kind: kindBye, number: 1})...), shuffle.ErrProtocol, "on offer"},
		"goodbye twice":        {append(one(frame{kind: kindBye}), one(frame{kind: kindBye})...), nil, ""},
		"done with nothing":    {one(frame{kind: kindDone}), shuffle.ErrProtocol, "was not said"},
		"hello again":          {one(frame{kind: kindHello, length: 100}), shuffle.ErrProtocol, "hello twice"},
		"no":                   {one(frame{kind: kindNo, length: 5}), shuffle.ErrMismatch, "it says"},
		"goodbye":              {one(frame{kind: kindBye}), shuffle.ErrClosed, "closed its endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			tr, r, end := meetRogue(t, nil)
			defer end()
			for _, s := range tc.say {
				b := r.build(s.frame, s.lengths...)
				if s.bend != nil {
					b = s.bend(b)
				}
				r.say(b)
			}
			var down error
			for deadline := time.Now().Add(30 * time.Second); down == nil; {
				if time.Now().After(deadline) {
					t.Fatal("nothing was noticed")
				}
				r.turn()
				if name == "too many" && !goneNow(tr) { // leave them unpolled
					continue
				}
				var events [100]shuffle.Event
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
			if tc.want != nil && !errors.Is(down, tc.want) || !strings.Contains(down.Error(), tc.text) ||
				!strings.HasPrefix(down.Error(), "ucx: rank 0 lost rank 1: ") {
				t.Errorf("reason: %v", down)
			}
		})
	}
}

func goneNow(t *Transport) bool {
	t.hub.Lock()
	defer t.hub.Unlock()
	return t.peers[1].Gone()
}

// What does not begin with the token of a rank of the job changes nothing, whatever it is.
func TestStrangers(t *testing.T) {
	tr, r, end := meetRogue(t, func(o *Options) { o.CloseTimeout = 10 * time.Millisecond })
	defer end()
	good := r.build(frame{kind: kindMessage, number: 1})
	for _, b := range [][]byte{
		[]byte("x"), bytes.Repeat([]byte("garbage "), 1000),
		build(frame{kind: kindBye, rank: 1}),
		build(frame{kind: kindBye, rank: 1, token: r.p.tokenIn}),
		build(frame{kind: kindBye, rank: 0, token: r.p.tokenOut}),
		build(frame{kind: kindBye, rank: 77, token: r.p.tokenOut}),
		good[:frameHead-1],
	} {
		r.say(b)
	}
	r.say(good)
	for n := 0; n == 0; {
		r.turn()
		var events [2]shuffle.Event
		var err error
		if n, err = tr.Poll(events[:]); err != nil {
			t.Fatal(err)
		}
		if n > 0 && events[0].Kind != shuffle.EventMessage {
			t.Errorf("event %+v", events[0])
		}
	}
}

// A payload that is not what was announced ends the link.
func TestWrongPayload(t *testing.T) {
	tr, r, end := meetRogue(t, nil)
	defer end()
	r.say(r.build(frame{kind: kindMessage, number: 1, size: 9000}, 9000))
	ev := waitEvent(t, tr, shuffle.EventOffer)
	post(t, tr, shuffle.Op{Kind: shuffle.OpAccept, Peer: 1, Cookie: ev.Cookie, Payload: buffers(t, 9000)})
	data := r.blocks.take(100)
	tags := uint32(0)
	tr.hub.Lock() // it belongs to the other goroutine, which does not change it any more
	tags = tr.peers[1].tagsIn
	tr.hub.Unlock()
	i := r.slot(slot{p: r.p, kind: opMessage, block: data})
	r.ops = append(r.ops, op{kind: opSend, addr: addressOf(data.bytes), len: 100, tag: tag(tags, 1, 0), slot: i})
	for !goneNow(tr) {
		r.turn()
	}
	ev = waitEvent(t, tr, shuffle.EventPeerDown)
	if !errors.Is(ev.Err, shuffle.ErrProtocol) || !strings.Contains(ev.Err.Error(), "100 bytes of message 1 where 9000") {
		t.Error(ev.Err)
	}
}

// script turns the fuzzer's bytes into what a peer says: frames with the right token and checksum, so that more than those is tested.
func (r *rogue) script(data []byte) (says [][]byte) {
	take := func(n int) []byte {
		n = min(n, len(data))
		b := data[:n]
		data = data[n:]
		return b
	}
	for len(data) > 0 {
		op := take(1)[0]
		arg := append(slices.Clone(take(3)), 0, 0, 0)
		f := frame{kind: frameKind(op % 12), number: uint64(arg[0]), size: uint64(arg[2]) << (op >> 5), inline: arg[1]&0x80 != 0}
		f.length = uint32(arg[1]&0x7f) << min(op>>4, 9)
		var lengths []int64
		switch {
		case f.inline:
		case f.kind == kindMessage && f.size > 1:
			lengths = []int64{1, int64(f.size) - 1}
		case f.kind == kindAccept:
			lengths, f.size, f.length = []int64{int64(arg[1]) + 1, int64(arg[2]) + 1}, 0, 0
		case f.kind != kindMessage && op < 0xc0:
			f.size, f.length = 0, 0
		}
		if f.inline {
			f.size &= 0xffff
		}
		says = append(says, r.build(f, lengths...))
	}
	return says
}

// Whatever a peer says at any moment ends in one EventPeerDown with a reason, with bounded memory and nothing
// left behind. This rank sends too, so that answers mean something.
func FuzzLink(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 1, 0, 9, 3, 2, 0x80, 7, 8, 2, 0, 0, 9, 0, 0, 0})
	f.Add([]byte{4, 1, 9, 89, 4, 2, 0, 0, 6, 1, 0, 0, 6, 3, 0, 0, 7, 0, 0, 0})
	f.Add([]byte{5, 2, 0, 0, 5, 3, 0, 0, 6, 3, 0, 0, 10, 0, 0, 0, 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			return
		}
		tr, r, end := meetRogue(t, func(o *Options) { o.CloseTimeout, o.ReceiveBudget = 10*time.Millisecond, 2*shuffle.MaxHeader })
		defer end()
		var sends []shuffle.Op
		for i := range 3 {
			sends = append(sends, shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Header: data[:min(len(data), 40)]})
			if i > 0 {
				sends[i].Payload = buffers(t, 9000*i)
			}
		}
		post(t, tr, sends...)
		says := r.script(data)
		says = append(says, r.build(frame{kind: 99})) // the end
		down := false
		for deadline := time.Now().Add(20 * time.Second); !down; {
			if time.Now().After(deadline) {
				t.Fatal("the link does not end")
			}
			if len(says) > 0 {
				r.say(says[0])
				says = says[1:]
			}
			r.turn()
			var events [5]shuffle.Event
			n, err := tr.Poll(events[:])
			if err != nil {
				t.Fatal(err)
			}
			for i, ev := range events[:n] {
				switch ev.Kind {
				case shuffle.EventOffer:
					answer := shuffle.Op{Kind: shuffle.OpRefuse, Peer: 1, Cookie: ev.Cookie}
					if ev.Size < 1<<16 && ev.Size%3 != 0 {
						answer.Kind, answer.Payload = shuffle.OpAccept, buffers(t, int(ev.Size))
					}
					post(t, tr, answer)
				case shuffle.EventMessage:
					link.ReleaseAll(ev.Payload)
				case shuffle.EventPeerDown:
					if down = true; ev.Err == nil || i != n-1 {
						t.Errorf("event %d of %d: %v", i, n, ev.Err)
					}
				}
			}
			tr.hub.Lock()
			if held := tr.peers[1].Headers.Held(); held > 2*shuffle.MaxHeader {
				t.Errorf("%d bytes of headers, the budget is %d", held, 2*shuffle.MaxHeader)
			}
			tr.hub.Unlock()
		}
	})
}

// goldenFrames are frames of some kinds, as they have always been.
var goldenFrames = map[string]struct {
	frame
	lengths []int64
	bytes   string
}{
	"message": {frame{kind: kindMessage, rank: 3, token: 0x0102030405060708, number: 9, size: 9000, length: 2}, []int64{8000, 1000},
		"44567475 01030000 0807060504030201 03000000 02000000 0900000000000000 2823000000000000 02000000 9674ae68 401f000000000000 e803000000000000 0000"},
	"accept": {frame{kind: kindAccept, rank: 3, token: 0x0102030405060708, number: 9}, []int64{9000},
		"44567475 01040000 0807060504030201 03000000 01000000 0900000000000000 0000000000000000 00000000 7c12609d 2823000000000000"},
	"bye": {frame{kind: kindBye, rank: 3, token: 0x0102030405060708, number: 300}, nil,
		"44567475 01080000 0807060504030201 03000000 00000000 2c01000000000000 0000000000000000 00000000 75b518b4"},
}

func TestGolden(t *testing.T) {
	for name, g := range goldenFrames {
		b := build(g.frame, g.lengths...)
		if got := hex.EncodeToString(b); got != strings.ReplaceAll(g.bytes, " ", "") {
			t.Errorf("frame %s is %s", name, got)
		}
		g.pieces = uint32(len(g.lengths))
		if f, lengths, _, err := decodeFrame(b, nil); f != g.frame || !slices.Equal(lengths, g.lengths) || err != nil {
			t.Errorf("frame %s is read as %+v, %v", name, f, err)
		}
	}
}

// A frame that is decoded is encoded to the same bytes.
func FuzzFrame(f *testing.F) {
	for _, g := range goldenFrames {
		f.Add(build(g.frame, g.lengths...), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if len(data) < frameHead {
			return
		}
		data = slices.Clone(data)
		if n := binary.LittleEndian.Uint32(data[20:]); mend && int(n) <= (len(data)-frameHead)/8 {
			binary.LittleEndian.PutUint32(data[44:], frameSum(data, int(n)))
		}
		if _, _, ok := sender(data); !ok {
			return
		}
		fr, lengths, body, err := decodeFrame(data, nil)
		if err != nil {
			return
		}
		again := build(fr, lengths...)
		if copy(again[len(again)-len(body):], body); !bytes.Equal(again, data) {
			t.Errorf("%x became %+v", data, fr)
		}
	})
}

// A hello that is read is one that was said.
func FuzzHello(f *testing.F) {
	a, b := &address{}, &address{nonce: [nonceSize]byte{1}}
	h := hello{rank: 1, to: 0, size: 2, epoch: 7, window: 1 << 20, tags: 5, job: "job", spec: "spec"}
	f.Add(h.encode(testSecret, a, b), false)
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if n := len(data) - 32; mend && n > 0 {
			data = append(slices.Clone(data[:n]), prove(testSecret, "hello", a.nonce[:], b.nonce[:], data[:n])...)
		}
		h, err := decodeHello(data, testSecret, a, b)
		if err == nil && !bytes.Equal(h.encode(testSecret, a, b), data) {
			t.Errorf("%x became %+v", data, h)
		}
	})
}

// Fragments are the same whichever end cuts, cross no end of a buffer, and are the payload together.
func FuzzCut(f *testing.F) {
	f.Add([]byte{5, 7, 1}, []byte{13}, uint16(4))
	f.Fuzz(func(t *testing.T, x, y []byte, most uint16) {
		var a, b []int64
		var left int64
		for _, v := range x[:min(len(x), shuffle.MaxPieces)] {
			a = append(a, int64(v)+1)
			left += int64(v) + 1
		}
		for _, v := range y[:min(len(y), shuffle.MaxPieces-1)] {
			if n := min(left, int64(v)+1); n > 0 {
				b = append(b, n)
				left -= n
			}
		}
		if left > 0 {
			b = append(b, left)
		}
		limit := int64(most)%300 + 1
		cuts := cut(nil, a, b, limit)
		if !slices.Equal(cuts, cut(nil, b, a, limit)) {
			t.Fatalf("%v and %v are cut another way", a, b)
		}
		for _, pieces := range [][]int64{a, b} {
			i, at := 0, int64(0)
			for _, n := range cuts {
				if n < 1 || n > limit || i == len(pieces) || at+n > pieces[i] {
					t.Fatalf("%v and %v are cut to %v", a, b, cuts)
				}
				if at += n; at == pieces[i] {
					i, at = i+1, 0
				}
			}
			if i != len(pieces) {
				t.Fatalf("%v and %v are cut to %v", a, b, cuts)
			}
		}
	})
}

package tcp

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// script turns the fuzzer's bytes into what a peer says: frames with the right checksum, so that more than the
// checksum is tested, and anything at all.
func script(data []byte) []byte {
	var out []byte
	take := func(n int) []byte {
		n = min(n, len(data))
		b := data[:n]
		data = data[n:]
		return b
	}
	for len(data) > 0 {
		op := take(1)[0]
		if op >= 0xc0 {
			out = append(out, take(int(op&0x3f))...)
			continue
		}
		arg := append(take(3), 0, 0, 0)
		f := frame{kind: frameKind(op % 9), number: uint64(arg[0]), length: uint32(arg[1]) << (op >> 4)}
		if f.kind == kindMessage || f.kind == kindPayload || op&8 != 0 {
			f.size = uint64(arg[2]) << (op >> 4)
		}
		out = appendFrame(out, f)
		if f.kind == kindMessage || f.kind == kindPayload {
			out = append(out, make([]byte, f.length)...)
		}
	}
	return out
}

// Whatever a peer says at any moment ends in one EventPeerDown with a reason, with bounded memory and nothing
// left behind. This rank sends too, so that answers mean something.
func FuzzLink(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 1, 9, 0, 1, 2, 5, 7, 4, 2, 7, 0, 7, 2, 0, 0})
	f.Add([]byte{2, 2, 0, 0, 3, 3, 0, 0, 5, 1, 0, 0, 5, 3, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0})
	f.Add([]byte{0x91, 1, 0xff, 0xff, 0x94, 1, 0xff, 0})
	f.Add(append([]byte{0xff}, bytes.Repeat([]byte("G"), 63)...))
	socket := filepath.Join(f.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1000 {
			return
		}
		theirs, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		alloc := mem.NewChecked(t, mem.Host())
		o := Options{Rank: 0, Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}, CloseTimeout: 30 * time.Second}
		o.EnsureDefaults()
		o.ReceiveBudget = o.leastBudget()
		tr := newTransport(o, []net.Conn{nil, ours}, []int{0, o.window()})
		defer tr.Close()
		buffer := func(n int) []*mem.Buffer {
			b, err := alloc.Alloc(n)
			if err != nil {
				t.Fatal(err)
			}
			return []*mem.Buffer{b}
		}
		var sends []shuffle.Op
		for i := range 3 {
			sends = append(sends, shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Header: data[:min(len(data), 40)]})
			if i > 0 {
				sends[i].Payload = buffer(100 * i)
			}
		}
		if err := tr.Post(sends); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = theirs.Write(script(data)) // the link may end before
			_ = theirs.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, theirs)
			_ = theirs.Close()
		}()
		for down := false; !down; {
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
						answer.Kind, answer.Payload = shuffle.OpAccept, buffer(int(ev.Size))
					}
					if err := tr.Post([]shuffle.Op{answer}); err != nil {
						t.Fatal(err)
					}
				case shuffle.EventMessage:
					link.ReleaseAll(ev.Payload)
				case shuffle.EventPeerDown:
					if down = true; ev.Err == nil || i != n-1 {
						t.Errorf("event %d of %d: %v", i, n, ev.Err)
					}
				}
			}
			tr.hub.Lock()
			if held := int64(tr.peers[1].Headers.Held()); held > o.ReceiveBudget {
				t.Errorf("%d bytes of headers, the budget is %d", held, o.ReceiveBudget)
			}
			tr.hub.Unlock()
			if n == 0 {
				select {
				case <-tr.Ready():
				case <-time.After(20 * time.Second):
					t.Fatal("the link does not end")
				}
			}
		}
	})
}

// A frame that is decoded is encoded to the same bytes.
func FuzzFrame(f *testing.F) {
	for name := range goldenFrames {
		f.Add([]byte(goldenFrame(f, name)), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if len(data) < frameSize {
			return
		}
		data = bytes.Clone(data[:frameSize])
		if mend {
			mendSum(data)
		}
		fr, err := decodeFrame(data)
		if err == nil && !bytes.Equal(appendFrame(nil, fr), data) {
			t.Errorf("%x became %+v", data, fr)
		}
	})
}

// Whatever a caller says instead of a greeting is an error or a greeting, and no memory is made for what it only
// says it will send.
func FuzzGreeting(f *testing.F) {
	for name := range goldenGreetings {
		f.Add(goldenGreeting(f, name), false)
	}
	f.Add(append([]byte(greetingMagic), 1, 0, 1, 0, 0xff, 0xff, 0xff, 0xff), false)
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend && len(data) > greetingHead+greetingSum {
			data = bytes.Clone(data)
			mendSum(data)
		}
		version, kind, body, err := readGreeting(bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		if len(body) > greetingMost {
			t.Fatalf("a body of %d bytes", len(body))
		}
		var again []byte
		switch kind {
		case greetingHello:
			h, err := decodeHello(body)
			if err != nil {
				return
			}
			again = h.encode(version)
		case greetingVerdict:
			v, err := decodeVerdict(body)
			if err != nil || v.text != string(body[1:]) || version != greetingVersion {
				return
			}
			again = v.encode()
		default:
			return
		}
		if !bytes.HasPrefix(data, again) {
			t.Errorf("%x became %x", data, again)
		}
	})
}

package shuffle

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var goldenKey = opKey{run: 0x1122334455667788, op: 0xabcde, epoch: 7, instance: 3}

// goldenMessages are messages of every kind, by name.
func goldenMessages() map[string][]byte {
	build := func(kind msgKind, count int, body func(b []byte) []byte) []byte {
		b := body(make([]byte, prefixSize))
		finishMessage(b, &prefix{opKey: goldenKey, kind: kind, source: 1, dest: 2, seq: 9, count: count})
		return b
	}
	value := func(kind msgKind) []byte {
		return build(kind, 0, func(b []byte) []byte { return appendValue(b, 1<<40+5) })
	}
	c := commit{task: 77, attempt: 2, total: 5, lines: []line{
		{part: 4, Totals: Totals{Chunks: 2, Rows: 30, Hash: Hash{0xa1, 0xb1}}},
		{part: 6, Totals: Totals{Chunks: 1, Rows: 0, Hash: Hash{0, 1<<64 - 1}}},
	}}
	return map[string][]byte{
		"hello": build(msgHello, 0, func(b []byte) []byte {
			return appendHello(b, &hello{ranks: 8, parts: 100, owners: 0xfeedface, maxChunk: 1 << 20, granted: 4096})
		}),
		"grant":  value(msgGrant),
		"want":   value(msgWant),
		"skip":   value(msgSkip),
		"finish": value(msgFinish),
		"commit": build(msgCommit, len(c.lines), func(b []byte) []byte { return appendCommit(b, &c) }),
		"retract": build(msgRetract, 0, func(b []byte) []byte {
			return appendCommit(b, &commit{task: 77, attempt: 2})
		}),
		"poison": build(msgPoison, 0, func(b []byte) []byte { return appendPoison(b, &poison{rank: 5, text: "disk full"}) }),
		"data": build(msgData, 2, func(b []byte) []byte {
			h := goldenHeader()
			b = append(appendChunkHeader(b, &h), "schema"...)
			h.size, h.metaLen, h.checksum = 0, 0, chunkSum(nil, nil)
			return appendChunkHeader(b, &h)
		}),
	}
}

func goldenHeader() chunkHeader {
	return chunkHeader{
		opKey: goldenKey, source: 1, task: 77, attempt: 2, part: 6, seq: 12, rows: 3, hash: Hash{0xaaaa, 0xbbbb},
		size: 5, metaLen: 6, checksum: chunkSum([]byte("hello"), []byte("schema")),
	}
}

// The bytes of every message are as they have always been.
func TestWireGolden(t *testing.T) {
	for name, got := range goldenMessages() {
		path := filepath.Join("testdata", "wire", name+".hex")
		if *rewrite {
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(got) != string(want) {
			t.Errorf("%s is\n%swas\n%s", name, hex.Dump(got), want)
		}
	}
}

func TestWireRoundTrip(t *testing.T) {
	all := goldenMessages()
	p, body, err := decodePrefix(all["hello"])
	if err != nil || p != (prefix{opKey: goldenKey, kind: msgHello, source: 1, dest: 2, seq: 9}) {
		t.Fatalf("%+v %v", p, err)
	}
	if h, err := decodeHello(body); err != nil || h != (hello{ranks: 8, parts: 100, owners: 0xfeedface, maxChunk: 1 << 20, granted: 4096}) {
		t.Errorf("%+v %v", h, err)
	}
	_, body, _ = decodePrefix(all["want"])
	if v, err := decodeValue(body); err != nil || v != 1<<40+5 {
		t.Error(v, err)
	}
	p, body, _ = decodePrefix(all["commit"])
	if c, err := decodeCommit(body, p.count); err != nil || c.task != 77 || c.attempt != 2 || c.total != 5 ||
		len(c.lines) != 2 || c.lines[1] != (line{6, Totals{1, 0, Hash{0, 1<<64 - 1}}}) {
		t.Errorf("%+v %v", c, err)
	}
	_, body, _ = decodePrefix(all["poison"])
	if po, err := decodePoison(body); err != nil || po != (poison{5, "disk full"}) {
		t.Errorf("%+v %v", po, err)
	}
	_, body, _ = decodePrefix(all["data"])
	var h chunkHeader
	if err := decodeChunkHeader(body, &h); err != nil || h != goldenHeader() {
		t.Errorf("%+v %v", h, err)
	}
	if b := appendPoison(nil, &poison{text: strings.Repeat("x", 1<<20)}); len(b) != 4+maxPoisonText {
		t.Errorf("poison of %d bytes", len(b))
	}
}

// Any bit that flips, and any byte that is cut off, is noticed.
func TestWireDamage(t *testing.T) {
	for name, msg := range goldenMessages() {
		for i := range 8 * len(msg) {
			bad := bytes.Clone(msg)
			bad[i/8] ^= 1 << (i % 8)
			if _, _, err := decodePrefix(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s with bit %d flipped: %v", name, i, err)
			}
		}
		for n := range msg {
			if _, _, err := decodePrefix(msg[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
	h := goldenHeader()
	good := appendChunkHeader(nil, &h)
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if err := decodeChunkHeader(bad, new(chunkHeader)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("chunk header with bit %d flipped: %v", i, err)
		}
	}
}

// Another version with a right checksum is told apart from damage.
func TestWireVersion(t *testing.T) {
	msg := goldenMessages()["grant"]
	msg[4]++
	sum := messageSum(msg)
	msg[52], msg[53], msg[54], msg[55] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	if _, _, err := decodePrefix(msg); !errors.Is(err, ErrMismatch) || !strings.Contains(fmt.Sprint(err), "version 2") {
		t.Error(err)
	}
}

// FuzzDecode gives every decoder any bytes, behind a prefix that is made right so that they get that far.
func FuzzDecode(f *testing.F) {
	for _, msg := range goldenMessages() {
		f.Add(msg[5], uint16(1), msg[prefixSize:])
	}
	f.Add(uint8(msgData), uint16(300), bytes.Repeat([]byte{0xff}, 400))
	s := &Shuffler{comm: &Communicator{rank: 2, size: 3}}
	f.Fuzz(func(t *testing.T, kind uint8, count uint16, body []byte) {
		if len(body) > MaxHeader-prefixSize {
			return
		}
		if _, _, err := decodePrefix(body); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMismatch) {
			t.Fatal(err)
		}
		msg := append(make([]byte, prefixSize), body...)
		finishMessage(msg, &prefix{opKey: goldenKey, kind: msgKind(kind), source: 1, dest: 2, seq: 1, count: int(count)})
		p, body, err := decodePrefix(msg)
		if err != nil {
			return
		}
		var m message
		ev := s.decoded(&m, p, body, nil)
		if ev.kind == evAbort && len(m.items) > 0 || ev.kind == evAbort && !errors.Is(ev.err, ErrCorrupt) && !errors.Is(ev.err, ErrMismatch) {
			t.Fatal(ev.err)
		}
		// What was understood says the same when it is written again.
		if ev.kind != evMessage {
			return
		}
		var again []byte
		switch p.kind {
		case msgHello:
			again = appendHello(nil, &m.hello)
		case msgGrant, msgWant, msgSkip, msgFinish:
			again = appendValue(nil, m.value)
		case msgPoison:
			again = appendPoison(nil, &m.poison)
		default:
			return // lines have padding that is ignored; chunks have checksums of their own
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("%s %x became %x", p.kind, body, again)
		}
	})
}

func TestSeqSet(t *testing.T) {
	var s seqSet
	for _, step := range []struct {
		n     uint64
		fresh bool
	}{{1, true}, {1, false}, {3, true}, {5, true}, {3, false}, {2, true}, {2, false}, {3, false}, {4, true}, {5, false}, {6, true}} {
		if fresh, ok := s.add(step.n); fresh != step.fresh || !ok {
			t.Fatalf("%d: fresh %v, ok %v", step.n, fresh, ok)
		}
	}
	if s.base != 6 || len(s.ahead) != 0 {
		t.Fatalf("%+v", s)
	}
	for n := range uint64(maxAhead) {
		s.add(100 + n)
	}
	if _, ok := s.add(1 << 40); ok {
		t.Error("a gap that no reordering explains was taken")
	}
}

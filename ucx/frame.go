//go:build ucx && cgo

package ucx

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

const (
	frameMagic   = 0x75745644 // "DVtu"
	frameVersion = 1
	frameHead    = 48

	// maxPayload bounds what a message can say its payload is; it only keeps sums from overflowing.
	maxPayload = 1 << 50
	// inlineMost is up to which length, header and payload together, a payload comes with its announcement.
	inlineMost = 8 << 10
	// textMost bounds the reason of a refusal.
	textMost = 1 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameKind says what a frame is for. The package documentation describes each.
type frameKind uint8

const (
	kindHello frameKind = iota + 1
	kindNo
	kindMessage
	kindAccept
	kindRefuse
	kindTaken
	kindLeave
	kindBye
	kindDone
	kindBeat
	frameKinds
)

var kindNames = [frameKinds]string{"", "hello", "no", "message", "accept", "refuse", "taken", "leave", "bye", "done", "beat"}

func (k frameKind) String() string {
	if k == 0 || k >= frameKinds {
		return fmt.Sprintf("frame(%d)", uint8(k))
	}
	return kindNames[k]
}

// frame is what is said in an active message, but for the lengths and the bytes.
type frame struct {
	kind   frameKind
	inline bool   // message: the payload is behind the header
	rank   int    // who says it
	token  uint64 // and proves that it knows the job
	number uint64 // of the message it is about
	size   uint64 // message: bytes of payload
	length uint32 // bytes of header, or of what else is said
	pieces uint32 // lengths of buffers, behind the head
}

// whole returns how long the encoded frame is.
func (f *frame) whole() int {
	n := frameHead + 8*int(f.pieces) + int(f.length)
	if f.inline {
		n += int(f.size)
	}
	return n
}

// encode writes the head of a frame into b, behind which the lengths are already.
func (f *frame) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b, frameMagic)
	b[4], b[5], b[6], b[7] = frameVersion, byte(f.kind), 0, 0
	if f.inline {
		b[6] = 1
	}
	le.PutUint64(b[8:], f.token)
	le.PutUint32(b[16:], uint32(f.rank))
	le.PutUint32(b[20:], f.pieces)
	le.PutUint64(b[24:], f.number)
	le.PutUint64(b[32:], f.size)
	le.PutUint32(b[40:], f.length)
	le.PutUint32(b[44:], frameSum(b, int(f.pieces)))
}

// frameSum is the checksum of a head and the lengths behind it.
func frameSum(b []byte, pieces int) uint32 {
	return crc32.Update(crc32.Checksum(b[:frameHead-4], castagnoli), castagnoli, b[frameHead:frameHead+8*pieces])
}

// sender returns who says that it sent b, and its token. It is false if b is no frame of this protocol.
func sender(b []byte) (rank uint32, token uint64, ok bool) {
	le := binary.LittleEndian
	if len(b) < frameHead || le.Uint32(b) != frameMagic || b[4] != frameVersion {
		return 0, 0, false
	}
	return le.Uint32(b[16:]), le.Uint64(b[8:]), true
}

// decodeFrame reads a frame whose sender is known, and checks everything about it that needs no knowledge of the link. It returns
// the lengths that are in it in the memory of lengths, and the bytes behind them.
func decodeFrame(b []byte, lengths []int64) (f frame, pieces []int64, body []byte, err error) {
	le := binary.LittleEndian
	f = frame{
		kind: frameKind(b[5]), inline: b[6] == 1, rank: int(le.Uint32(b[16:])), token: le.Uint64(b[8:]), pieces: le.Uint32(b[20:]),
		number: le.Uint64(b[24:]), size: le.Uint64(b[32:]), length: le.Uint32(b[40:]),
	}
	if f.pieces > shuffle.MaxPieces || int(f.pieces) > (len(b)-frameHead)/8 {
		return f, nil, nil, link.Protocol("a frame of %d bytes says that it has %d lengths", len(b), f.pieces)
	}
	if sum, want := frameSum(b, int(f.pieces)), le.Uint32(b[44:]); sum != want {
		return f, nil, nil, fmt.Errorf("%w: frame checksum is %#08x, should be %#08x", shuffle.ErrCorrupt, sum, want)
	}
	var total uint64
	pieces = lengths[:0]
	zero := false
	for i := range int(f.pieces) {
		n := le.Uint64(b[frameHead+8*i:])
		zero = zero || n == 0 || n > maxPayload
		total += n
		pieces = append(pieces, int64(n))
	}
	bad := zero || total > maxPayload
	number, size, length, split := f.number != 0, f.size != 0, f.length != 0, f.pieces != 0
	switch f.kind {
	case kindMessage:
		bad = bad || !number || f.size > maxPayload || f.length > shuffle.MaxHeader || f.inline && (!size || split || f.size > inlineMost) ||
			!f.inline && (size != split || total != f.size)
	case kindAccept:
		bad = bad || !number || size || length || !split
	case kindRefuse, kindTaken:
		bad = bad || !number || size || length || split
	case kindHello:
		bad = bad || number || size || split || f.length > helloMost
	case kindNo:
		bad = bad || number || size || split || f.length > textMost
	case kindBye:
		bad = bad || size || length || split
	case kindLeave, kindDone, kindBeat:
		bad = bad || number || size || length || split
	default:
		bad = true
	}
	if bad || f.inline != (b[6] != 0) || f.inline && f.kind != kindMessage || b[7] != 0 || f.whole() != len(b) {
		return f, nil, nil, link.Protocol("a frame of %d bytes, kind %d, number %d, size %d, length %d and %d pieces makes no sense",
			len(b), b[5], f.number, f.size, f.length, f.pieces)
	}
	return f, pieces, b[frameHead+8*int(f.pieces):], nil
}

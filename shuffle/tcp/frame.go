package tcp

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

const (
	frameMagic   = 0x66745644 // "DVtf"
	frameVersion = 1
	frameSize    = 32

	// segment bounds the payload bytes of one frame, so that frames that answer the other direction never
	// wait behind a whole large payload.
	segment = 1 << 20
	// maxPayload bounds what a message can say its payload is; it only keeps sums from overflowing.
	maxPayload = 1 << 50
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameKind says what a frame is for. The package documentation describes each.
type frameKind uint8

const (
	kindMessage frameKind = iota + 1
	kindAccept
	kindRefuse
	kindPayload
	kindTaken
	kindLeave
	kindBye
	frameKinds
)

var kindNames = [frameKinds]string{"", "message", "accept", "refuse", "payload", "taken", "leave", "bye"}

func (k frameKind) String() string {
	if k == 0 || k >= frameKinds {
		return fmt.Sprintf("frame(%d)", uint8(k))
	}
	return kindNames[k]
}

// frame is what a frame header says.
type frame struct {
	kind   frameKind
	number uint64 // of the message it is about
	size   uint64 // message: bytes of payload; payload: where in it the bytes belong
	length uint32 // bytes that follow
}

// appendFrame appends the encoded frame header to b.
func appendFrame(b []byte, f frame) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint32(b, frameMagic)
	b = append(b, frameVersion, byte(f.kind), 0, 0)
	b = le.AppendUint64(b, f.number)
	b = le.AppendUint64(b, f.size)
	b = le.AppendUint32(b, f.length)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func protocol(format string, args ...any) error { return link.Protocol(format, args...) }

// decodeFrame reads a frame header and checks everything about it that needs no knowledge of the link.
func decodeFrame(b []byte) (frame, error) {
	le := binary.LittleEndian
	if m := le.Uint32(b); m != frameMagic {
		return frame{}, protocol("a frame starts with %#08x", m)
	}
	if sum, want := crc32.Checksum(b[:frameSize-4], castagnoli), le.Uint32(b[frameSize-4:]); sum != want {
		return frame{}, fmt.Errorf("%w: frame checksum is %#08x, should be %#08x", shuffle.ErrCorrupt, sum, want)
	}
	f := frame{
		kind: frameKind(b[5]), number: le.Uint64(b[8:]), size: le.Uint64(b[16:]), length: le.Uint32(b[24:]),
	}
	bad := false
	switch f.kind {
	case kindMessage:
		bad = f.number == 0 || f.size > maxPayload || f.length > shuffle.MaxHeader
	case kindPayload:
		bad = f.number == 0 || f.size > maxPayload || f.length == 0 || f.length > segment
	case kindAccept, kindRefuse, kindTaken:
		bad = f.number == 0 || f.size != 0 || f.length != 0
	case kindBye:
		bad = f.size != 0 || f.length != 0
	case kindLeave:
		bad = f.number != 0 || f.size != 0 || f.length != 0
	default:
		bad = true
	}
	if bad || b[4] != frameVersion || b[6]|b[7] != 0 {
		return frame{}, protocol("a frame of version %d, kind %d, number %d, size %d and length %d makes no sense",
			b[4], b[5], f.number, f.size, f.length)
	}
	return f, nil
}

package tcp

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

const (
	greetingMagic   = "DVTLtcp\n"
	greetingVersion = 1
	greetingHead    = 16
	greetingMost    = 8 << 10 // bytes of body
	greetingSum     = 4

	helloFixed  = 24
	maxRefusal  = 1 << 10
	maxRanks    = 1 << 20
	leastWindow = shuffle.MaxHeader
)

// greetingKind says what a record of the greeting is.
type greetingKind uint16

const (
	greetingHello   greetingKind = iota + 1
	greetingVerdict              // yes, no, or later
)

// hello is what ranks must agree on before they talk, and what each brings.
type hello struct {
	rank   int
	to     int // the rank that it means to talk to
	size   int
	epoch  uint32
	window int // bytes of headers that the sender of the hello has room for
	job    string
	spec   string
}

// verdict ends the greeting.
type verdict struct {
	code verdictCode
	text string // why not
}

type verdictCode uint8

const (
	verdictYes   verdictCode = iota + 1
	verdictNo                // and it will not help to try again
	verdictLater             // it may help
	verdictCodes
)

// greeting wraps a body as a record.
func greeting(version uint16, kind greetingKind, body []byte) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, greetingHead+len(body)+greetingSum), greetingMagic...)
	b = le.AppendUint16(b, version)
	b = le.AppendUint16(b, uint16(kind))
	b = le.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (h *hello) encode(version uint16) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, helloFixed+len(h.job)+len(h.spec))
	for _, v := range []uint32{uint32(h.rank), uint32(h.to), uint32(h.size), h.epoch, uint32(h.window)} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint16(b, uint16(len(h.job)))
	b = le.AppendUint16(b, uint16(len(h.spec)))
	return greeting(version, greetingHello, append(append(b, h.job...), h.spec...))
}

func decodeHello(b []byte) (hello, error) {
	if len(b) < helloFixed {
		return hello{}, protocol("a hello of %d bytes is cut off", len(b))
	}
	le := binary.LittleEndian
	u32 := func(i int) int { return int(le.Uint32(b[4*i:])) }
	h := hello{rank: u32(0), to: u32(1), size: u32(2), epoch: le.Uint32(b[12:]), window: u32(4)}
	job, spec := int(le.Uint16(b[20:])), int(le.Uint16(b[22:]))
	if len(b) != helloFixed+job+spec || job > maxJob || spec > maxSpec || h.size > maxRanks || h.rank >= h.size ||
		h.window < leastWindow || h.window > shuffle.MaxInFlight*shuffle.MaxHeader {
		return hello{}, protocol("a hello of rank %d of %d with a window of %d bytes makes no sense", h.rank, h.size, h.window)
	}
	h.job, h.spec = string(b[helloFixed:helloFixed+job]), string(b[helloFixed+job:])
	return h, nil
}

func (v *verdict) encode() []byte {
	text := v.text[:min(len(v.text), maxRefusal)]
	return greeting(greetingVersion, greetingVerdict, append([]byte{byte(v.code)}, text...))
}

func decodeVerdict(b []byte) (verdict, error) {
	if len(b) < 1 || len(b) > 1+maxRefusal || b[0] == 0 || b[0] >= byte(verdictCodes) {
		return verdict{}, protocol("a verdict of %d bytes makes no sense", len(b))
	}
	return verdict{code: verdictCode(b[0]), text: printable(string(b[1:]))}, nil
}

// printable makes another's text fit to be shown in one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// quote shows a text of the caller's in an error, cut to a readable length.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q... (%d bytes, CRC32C %08x)", s[:most], len(s), crc32.Checksum([]byte(s), castagnoli))
	}
	return fmt.Sprintf("%q", s)
}

// readGreeting reads one record. It allocates no more than the largest. first is what was read before.
func readGreeting(r io.Reader, first []byte) (version uint16, kind greetingKind, body []byte, err error) {
	var head [greetingHead]byte
	n := copy(head[:], first)
	if _, err := io.ReadFull(r, head[n:]); err != nil {
		return 0, 0, nil, cutOff(err)
	}
	if string(head[:len(greetingMagic)]) != greetingMagic {
		return 0, 0, nil, protocol("it starts with %q, which is no greeting of a rank", head[:len(greetingMagic)])
	}
	le := binary.LittleEndian
	length := le.Uint32(head[12:])
	if length > greetingMost {
		return 0, 0, nil, protocol("a greeting of %d bytes, at most %d are possible", length, greetingMost)
	}
	rest := make([]byte, length+greetingSum)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, 0, nil, cutOff(err)
	}
	body = rest[:length]
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, body)
	if want := le.Uint32(rest[length:]); sum != want {
		return 0, 0, nil, fmt.Errorf("%w: greeting checksum is %#08x, should be %#08x", shuffle.ErrCorrupt, sum, want)
	}
	return le.Uint16(head[8:]), greetingKind(le.Uint16(head[10:])), body, nil
}

func cutOff(err error) error { return fmt.Errorf("the greeting was cut off: %w", err) }

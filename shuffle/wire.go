package shuffle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Wire format, version 1. Everything is little-endian and at a fixed place, so that a dump can be read with
// a ruler. A message is a prefix, a body, and (data messages only) a payload that travels beside them:
//
//	+--------+------------------------------+   +-----------------------------+
//	| prefix | body                         |   | payload                     |
//	| 56 B   | chunk header, meta, chunk... |   | data of chunk, chunk, ...   |
//	+--------+------------------------------+   +-----------------------------+
//
// The prefix carries a CRC32C of itself and the body; every chunk header carries one of itself and one of
// its data and meta. A chunk header repeats who sent it although the prefix says so too, because the same
// 104 bytes precede the chunk in a spill file, where they stand alone.
const (
	wireVersion = 1

	messageMagic = 0x6d735644 // "DVsm"
	chunkMagic   = 0x68635644 // "DVch"

	prefixSize = 56
	// ChunkHeaderSize is the length of an encoded chunk header.
	ChunkHeaderSize = 104

	helloSize     = 32
	commitFixed   = 16
	lineSize      = 40
	maxLines      = (MaxHeader - prefixSize - commitFixed) / lineSize
	maxPoisonText = 4 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// msgKind says what a message is for.
type msgKind uint8

const (
	msgHello   msgKind = iota + 1 // options of the sender, and the first credit
	msgGrant                      // credit, as the total of bytes that may ever be sent
	msgWant                       // the total that the sender would like to have sent
	msgSkip                       // credit given back unused
	msgData                       // chunks
	msgCommit                     // ledger lines of a committed task
	msgRetract                    // an attempt that does not count
	msgFinish                     // how many tasks were committed for the receiver
	msgPoison                     // the operation failed
	msgKinds
)

var msgNames = [msgKinds]string{"", "hello", "grant", "want", "skip", "data", "commit", "retract", "finish", "poison"}

func (k msgKind) String() string {
	if k == 0 || k >= msgKinds {
		return fmt.Sprintf("message(%d)", uint8(k))
	}
	return msgNames[k]
}

// opKey tells operations apart on one network. instance counts the uses of an op id, so that a message of an
// earlier use cannot be taken for one of a later.
type opKey struct {
	run      uint64
	op       OpID
	epoch    uint32
	instance uint32
}

// prefix starts every message.
type prefix struct {
	opKey
	kind   msgKind
	source int
	dest   int
	seq    uint64 // counts the messages from source to dest within the operation, from 1
	count  int    // records in the body
}

// finishMessage writes p in front of b[prefixSize:], which is the body.
func finishMessage(b []byte, p *prefix) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], messageMagic)
	b[4], b[5], b[6], b[7] = wireVersion, byte(p.kind), 0, 0
	le.PutUint64(b[8:], p.run)
	le.PutUint32(b[16:], uint32(p.op))
	le.PutUint32(b[20:], p.instance)
	le.PutUint32(b[24:], p.epoch)
	le.PutUint32(b[28:], uint32(p.source))
	le.PutUint64(b[32:], p.seq)
	le.PutUint32(b[40:], uint32(len(b)-prefixSize))
	le.PutUint32(b[44:], uint32(p.count))
	le.PutUint32(b[48:], uint32(p.dest))
	le.PutUint32(b[52:], messageSum(b))
}

func messageSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:52], castagnoli), castagnoli, b[prefixSize:])
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// decodePrefix checks a whole message header (prefix and body) and returns its prefix and body.
func decodePrefix(b []byte) (prefix, []byte, error) {
	if len(b) < prefixSize {
		return prefix{}, nil, corrupt("message of %d bytes is shorter than its prefix", len(b))
	}
	le := binary.LittleEndian
	if m := le.Uint32(b); m != messageMagic {
		return prefix{}, nil, corrupt("message starts with %#08x", m)
	}
	if sum, want := messageSum(b), le.Uint32(b[52:]); sum != want {
		return prefix{}, nil, corrupt("message checksum is %#08x, should be %#08x", sum, want)
	}
	// From here on the bytes are as they were sent; what is wrong now is a peer of another make.
	if b[4] != wireVersion {
		return prefix{}, nil, fmt.Errorf("%w: message format version %d, this program has %d",
			ErrMismatch, b[4], wireVersion)
	}
	p := prefix{
		opKey: opKey{
			run: le.Uint64(b[8:]), op: OpID(le.Uint32(b[16:])),
			instance: le.Uint32(b[20:]), epoch: le.Uint32(b[24:]),
		},
		kind:   msgKind(b[5]),
		source: int(le.Uint32(b[28:])),
		seq:    le.Uint64(b[32:]),
		count:  int(le.Uint32(b[44:])),
		dest:   int(le.Uint32(b[48:])),
	}
	body := b[prefixSize:]
	switch {
	case int(le.Uint32(b[40:])) != len(body):
		return prefix{}, nil, corrupt("message body of %d bytes, should be %d", len(body), le.Uint32(b[40:]))
	case b[6] != 0 || b[7] != 0 || p.kind == 0 || p.kind >= msgKinds:
		return prefix{}, nil, corrupt("message of unknown kind %d", b[5])
	case p.op >= MaxOps || p.seq == 0:
		return prefix{}, nil, corrupt("message of op %d with number %d", p.op, p.seq)
	}
	return p, body, nil
}

// chunkHeader describes one chunk on the wire and on disk.
type chunkHeader struct {
	opKey
	source   int
	task     uint64
	attempt  uint32
	part     int
	seq      uint64
	rows     int64
	hash     Hash
	size     int64  // bytes of data
	metaLen  int    // bytes of meta
	checksum uint32 // CRC32C of data, then meta
}

// appendChunkHeader appends the encoded header to b.
func appendChunkHeader(b []byte, h *chunkHeader) []byte {
	b = append(b, zeroHeader[:]...)
	a := b[len(b)-ChunkHeaderSize:]
	le := binary.LittleEndian
	le.PutUint32(a[0:], chunkMagic)
	a[4] = wireVersion
	le.PutUint64(a[8:], h.run)
	le.PutUint32(a[16:], uint32(h.op))
	le.PutUint32(a[20:], h.instance)
	le.PutUint32(a[24:], h.epoch)
	le.PutUint32(a[28:], uint32(h.source))
	le.PutUint64(a[32:], h.task)
	le.PutUint32(a[40:], h.attempt)
	le.PutUint32(a[44:], uint32(h.part))
	le.PutUint64(a[48:], h.seq)
	le.PutUint64(a[56:], uint64(h.rows))
	le.PutUint64(a[64:], h.hash.A)
	le.PutUint64(a[72:], h.hash.B)
	le.PutUint64(a[80:], uint64(h.size))
	le.PutUint32(a[88:], uint32(h.metaLen))
	le.PutUint32(a[92:], h.checksum)
	le.PutUint32(a[100:], crc32.Checksum(a[:100], castagnoli))
	return b
}

var zeroHeader [ChunkHeaderSize]byte

// decodeChunkHeader reads the header at the start of b. Lengths are bounded but not compared with what
// follows, which the caller does.
func decodeChunkHeader(b []byte, h *chunkHeader) error {
	if len(b) < ChunkHeaderSize {
		return corrupt("chunk header of %d bytes is cut off", len(b))
	}
	b = b[:ChunkHeaderSize]
	le := binary.LittleEndian
	if m := le.Uint32(b); m != chunkMagic {
		return corrupt("chunk header starts with %#08x", m)
	}
	if sum, want := crc32.Checksum(b[:100], castagnoli), le.Uint32(b[100:]); sum != want {
		return corrupt("chunk header checksum is %#08x, should be %#08x", sum, want)
	}
	if b[4] != wireVersion {
		return fmt.Errorf("%w: chunk format version %d, this program has %d", ErrMismatch, b[4], wireVersion)
	}
	*h = chunkHeader{
		opKey: opKey{
			run: le.Uint64(b[8:]), op: OpID(le.Uint32(b[16:])),
			instance: le.Uint32(b[20:]), epoch: le.Uint32(b[24:]),
		},
		source:   int(le.Uint32(b[28:])),
		task:     le.Uint64(b[32:]),
		attempt:  le.Uint32(b[40:]),
		part:     int(le.Uint32(b[44:])),
		seq:      le.Uint64(b[48:]),
		rows:     int64(le.Uint64(b[56:])),
		hash:     Hash{le.Uint64(b[64:]), le.Uint64(b[72:])},
		size:     int64(le.Uint64(b[80:])),
		metaLen:  int(le.Uint32(b[88:])),
		checksum: le.Uint32(b[92:]),
	}
	if b[5]|b[6]|b[7]|b[96]|b[97]|b[98]|b[99] != 0 || h.op >= MaxOps || h.rows < 0 || h.size < 0 ||
		h.metaLen > MaxMeta {
		return corrupt("chunk header of task %d, partition %d makes no sense", h.task, h.part)
	}
	return nil
}

// chunkSum is the checksum of a chunk's data and meta.
func chunkSum(data, meta []byte) uint32 {
	return crc32.Update(crc32.Checksum(data, castagnoli), castagnoli, meta)
}

package shuffle

import (
	"encoding/binary"
)

// hello is the body of the first message to every peer.
type hello struct {
	ranks    int
	parts    int
	owners   uint64 // fingerprint of the owner of every partition
	maxChunk int64
	granted  uint64
}

func appendHello(b []byte, h *hello) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(h.ranks))
	b = le.AppendUint32(b, uint32(h.parts))
	b = le.AppendUint64(b, h.owners)
	b = le.AppendUint64(b, uint64(h.maxChunk))
	return le.AppendUint64(b, h.granted)
}

func decodeHello(b []byte) (hello, error) {
	if len(b) != helloSize {
		return hello{}, corrupt("hello of %d bytes", len(b))
	}
	le := binary.LittleEndian
	return hello{
		ranks: int(le.Uint32(b)), parts: int(le.Uint32(b[4:])), owners: le.Uint64(b[8:]),
		maxChunk: int64(le.Uint64(b[16:])), granted: le.Uint64(b[24:]),
	}, nil
}

// appendValue is the body of msgGrant, msgWant, msgSkip and msgFinish.
func appendValue(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func decodeValue(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, corrupt("control message of %d bytes, should be 8", len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

// line is what one task committed for one partition.
type line struct {
	part int
	Totals
}

// commit is the body of msgCommit. The lines of a task may come in several messages; total counts all.
// Without lines it is also the body of msgRetract.
type commit struct {
	task    uint64
	attempt uint32
	total   int
	lines   []line
}

func appendCommit(b []byte, c *commit) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, c.task)
	b = le.AppendUint32(b, c.attempt)
	b = le.AppendUint32(b, uint32(c.total))
	for i := range c.lines {
		l := &c.lines[i]
		b = le.AppendUint32(b, uint32(l.part))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, uint64(l.Chunks))
		b = le.AppendUint64(b, uint64(l.Rows))
		b = le.AppendUint64(b, l.Hash.A)
		b = le.AppendUint64(b, l.Hash.B)
	}
	return b
}

func decodeCommit(b []byte, count int) (commit, error) {
	if len(b) < commitFixed || (len(b)-commitFixed)/lineSize != count || (len(b)-commitFixed)%lineSize != 0 {
		return commit{}, corrupt("commit of %d bytes with %d lines", len(b), count)
	}
	le := binary.LittleEndian
	c := commit{task: le.Uint64(b), attempt: le.Uint32(b[8:]), total: int(le.Uint32(b[12:]))}
	b = b[commitFixed:]
	if count == 0 {
		return c, nil
	}
	c.lines = make([]line, count) // count fits the bytes that are there, see above
	for i := range c.lines {
		l := line{
			part: int(le.Uint32(b)),
			Totals: Totals{
				Chunks: int64(le.Uint64(b[8:])), Rows: int64(le.Uint64(b[16:])),
				Hash: Hash{le.Uint64(b[24:]), le.Uint64(b[32:])},
			},
		}
		if l.Chunks <= 0 || l.Rows < 0 {
			return commit{}, corrupt("commit line %d of task %d makes no sense", i, c.task)
		}
		c.lines[i] = l
		b = b[lineSize:]
	}
	return c, nil
}

// poison is the body of msgPoison.
type poison struct {
	rank int // where the trouble was found
	text string
}

func appendPoison(b []byte, p *poison) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(p.rank))
	return append(b, p.text[:min(len(p.text), maxPoisonText)]...)
}

func decodePoison(b []byte) (poison, error) {
	if len(b) < 4 || len(b) > 4+maxPoisonText {
		return poison{}, corrupt("poison of %d bytes", len(b))
	}
	return poison{rank: int(binary.LittleEndian.Uint32(b)), text: string(b[4:])}, nil
}

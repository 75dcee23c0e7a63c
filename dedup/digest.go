package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Digest names a result: equal digests mean that the same documents were kept, removed and clustered, for the
// same evidence, and that the kept ones have the same texts.
//
// It is the sum, modulo 2^128 per half, of two XXH3-128 hashes of every document's line, so the order in which
// documents are visited does not matter and parts add up. A document's line is
//
//	id, verdict (0 kept, 1 removed, 2 of the reference set), kept_id, cluster_id, intersection, union, content hash
//
// where an id is a tag byte (0 generated, 1 integer, 2 bytes), its length for one of bytes, and its bytes; the numbers are
// uint64; the content hash is that of the raw text, and zero for a removed document; all
// little-endian. A record that was left out has the line 3, ordinal, and a file that was left out the line 4, index,
// path. A document that is in no cluster of two is its own kept_id and cluster_id. The zero value is the
// digest of no documents.
type Digest struct {
	Docs uint64 // lines
	Sum  [4]uint64
}

// Verdicts in a line.
const (
	verdictKept = iota
	verdictRemoved
	verdictReference
)

// line is what is hashed of one document.
type line struct {
	id, keptID   docID
	verdict      byte
	inter, union uint64
	text         lsh.Hash128
}

// docID is a document's id as users see it.
type docID struct {
	kind corpus.IDKind
	num  uint64
	str  string
}

func (d docID) append(dst []byte) []byte {
	switch {
	case d.kind.Bytes():
		dst = append(dst, 2)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(d.str)))
		return append(dst, d.str...)
	case d.kind.Ints():
		dst = append(dst, 1)
	default:
		dst = append(dst, 0)
	}
	return binary.LittleEndian.AppendUint64(dst, d.num)
}

// add adds one document; buf is scratch and is returned for the next call.
func (d *Digest) add(l line, buf []byte) []byte {
	buf = l.id.append(buf[:0])
	if l.verdict == verdictRemoved {
		l.text = lsh.Hash128{}
	}
	buf = append(buf, l.verdict)
	buf = l.keptID.append(buf)
	buf = l.keptID.append(buf) // a cluster's id is that of its kept document
	for _, v := range []uint64{l.inter, l.union, l.text.Hi, l.text.Lo} {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	d.hash(buf)
	return buf
}

// skippedRecord adds a record that was left out.
func (d *Digest) skippedRecord(ord uint64) { d.hash(binary.LittleEndian.AppendUint64([]byte{3}, ord)) }

// skippedFile adds a file that was left out.
func (d *Digest) skippedFile(index int, path string) {
	d.hash(append(binary.LittleEndian.AppendUint64([]byte{4}, uint64(index)), path...))
}

func (d *Digest) hash(line []byte) {
	a, b := xxh3.Hash128Seed(line, 1), xxh3.Hash128Seed(line, 2)
	d.merge(Digest{Docs: 1, Sum: [4]uint64{a.Hi, a.Lo, b.Hi, b.Lo}})
}

// merge adds the documents of o.
func (d *Digest) merge(o Digest) {
	d.Docs += o.Docs
	for i := 0; i < 4; i += 2 {
		var carry uint64
		d.Sum[i+1], carry = bits.Add64(d.Sum[i+1], o.Sum[i+1], 0)
		d.Sum[i] += o.Sum[i] + carry
	}
}

// String returns 32 hexadecimal digits: a SHA-256 over the count and the sums, shortened.
func (d Digest) String() string {
	b := []byte("dovetail digest 1\n")
	b = binary.LittleEndian.AppendUint64(b, d.Docs)
	for _, v := range d.Sum {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// MarshalJSON writes the parts, which add up, in hexadecimal.
func (d Digest) MarshalJSON() ([]byte, error) {
	return json.Marshal(fmt.Sprintf("%x:%016x%016x:%016x%016x", d.Docs, d.Sum[0], d.Sum[1], d.Sum[2], d.Sum[3]))
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (d *Digest) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	_, err := fmt.Sscanf(s, "%x:%16x%16x:%16x%16x", &d.Docs, &d.Sum[0], &d.Sum[1], &d.Sum[2], &d.Sum[3])
	return err
}

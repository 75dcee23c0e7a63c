package executor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/zeebo/xxh3"
)

// The log holds records; a frame holds one or more, each with its length in front. Numbers are unsigned
// varints unless said otherwise, strings and byte strings have their length in front.
//
//	header   version, run id (8 bytes), length of meta, its first piece
//	meta     the next piece; the pieces follow the header at once
//	epoch    number, text: who opened the folder and when
//	intent   path of a temporary file outside the folder that is about to be made
//	revoke   stage, task, epoch, attempt
//	commit   stage, task, epoch, attempt, input hash (16 bytes), files, results, counters
//	           file:    flags (1 = placed), name, size, CRC32C (4 bytes)
//	           result:  id, data, size (zigzag)
//	           counter: name, value (zigzag)
//
// A commit with an empty task holds the counters of a shuffle stage's inserts.
const (
	recHeader = iota + 1
	recEpoch
	recIntent
	recRevoke
	recCommit
	recMeta

	logVersion = 2
	// maxRecord leaves room in a frame for the record's own length.
	maxRecord = 48 << 20
	maxMeta   = 1 << 30
	metaPiece = 16 << 20
)

// commit says that a task is done.
type commit struct {
	stage, task    string
	epoch, attempt uint32
	input          inputHash
	files          []fileInfo
	results        []Task
	counters       []counter
}

// fileInfo describes a committed file.
type fileInfo struct {
	name   string // slash-separated and relative to the work folder, or absolute if placed
	placed bool
	size   int64
	crc    uint32 // CRC32C
}

type counter struct {
	name string
	n    int64
}

// inputHash is a hash of what a task was given. A committed task is used again only for the same input.
type inputHash [16]byte

func hashTask(t Task) inputHash { return inputHash(xxh3.Hash128(t.Data).Bytes()) }

// hashTasks covers everything the partitions of a shuffle stage depend on.
func hashTasks(tasks []Task, totalParts int) inputHash {
	h := xxh3.New()
	var buf []byte
	for _, t := range tasks {
		buf = appendString(buf[:0], t.ID)
		buf = binary.AppendUvarint(buf, uint64(len(t.Data)))
		h.Write(buf)
		h.Write(t.Data)
	}
	h.Write(binary.AppendUvarint(buf[:0], uint64(totalParts)))
	return inputHash(h.Sum128().Bytes())
}

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// headerRecords returns the header of a log and, where meta does not fit one record, what follows it.
func headerRecords(runID uint64, meta []byte) [][]byte {
	b := binary.LittleEndian.AppendUint64([]byte{recHeader, logVersion}, runID)
	b = binary.AppendUvarint(b, uint64(len(meta)))
	n := min(len(meta), metaPiece)
	out := [][]byte{appendString(b, meta[:n])}
	for meta = meta[n:]; len(meta) > 0; meta = meta[n:] {
		n = min(len(meta), metaPiece)
		out = append(out, appendString([]byte{recMeta}, meta[:n]))
	}
	return out
}

func appendEpoch(b []byte, n uint32, who string) []byte {
	return appendString(binary.AppendUvarint(append(b, recEpoch), uint64(n)), who)
}

func appendIntent(b []byte, path string) []byte { return appendString(append(b, recIntent), path) }

func appendRevoke(b []byte, c *commit) []byte {
	b = appendString(appendString(append(b, recRevoke), c.stage), c.task)
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(c.epoch)), uint64(c.attempt))
}

func appendCommit(b []byte, c *commit) []byte {
	b = appendString(append(b, recCommit), c.stage)
	b = appendString(b, c.task)
	b = binary.AppendUvarint(b, uint64(c.epoch))
	b = binary.AppendUvarint(b, uint64(c.attempt))
	b = append(b, c.input[:]...)
	b = binary.AppendUvarint(b, uint64(len(c.files)))
	for _, f := range c.files {
		flags := byte(0)
		if f.placed {
			flags = 1
		}
		b = appendString(append(b, flags), f.name)
		b = binary.AppendUvarint(b, uint64(f.size))
		b = binary.LittleEndian.AppendUint32(b, f.crc)
	}
	b = binary.AppendUvarint(b, uint64(len(c.results)))
	for _, t := range c.results {
		b = appendString(appendString(b, t.ID), t.Data)
		b = binary.AppendVarint(b, t.Size)
	}
	b = binary.AppendUvarint(b, uint64(len(c.counters)))
	for _, n := range c.counters {
		b = binary.AppendVarint(appendString(b, n.name), n.n)
	}
	return b
}

// decoder reads values from the front of b. After the first fault it returns zero values.
type decoder struct {
	b      []byte
	err    error
	intern map[string]string // strings that come again and again
}

var errShort = errors.New("record is cut short")

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.fail(fmt.Errorf("a number is cut short or larger than %d", most))
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns a byte string that shares the memory of the record.
func (d *decoder) bytes() []byte { return d.take(int(d.uvarint(math.MaxInt32))) }

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) name() string {
	b := d.bytes()
	s, ok := d.intern[string(b)]
	if !ok {
		s = string(b)
		d.intern[s] = s
	}
	return s
}

// count returns the length of a list whose elements take at least one byte each.
func (d *decoder) count() int {
	n := d.uvarint(math.MaxInt32)
	if n > uint64(len(d.b)) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

func (d *decoder) commit() *commit {
	c := &commit{stage: d.name(), task: d.string()}
	c.epoch = uint32(d.uvarint(math.MaxUint32))
	c.attempt = uint32(d.uvarint(math.MaxUint32))
	copy(c.input[:], d.take(len(c.input)))
	for n := d.count(); n > 0 && d.err == nil; n-- {
		f := fileInfo{placed: d.byte()&1 != 0, name: d.string(), size: int64(d.uvarint(math.MaxInt64))}
		if crc := d.take(4); crc != nil {
			f.crc = binary.LittleEndian.Uint32(crc)
		}
		c.files = append(c.files, f)
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		t := Task{ID: d.string()}
		if data := d.bytes(); len(data) > 0 {
			t.Data = append([]byte(nil), data...)
		}
		t.Size = d.varint()
		c.results = append(c.results, t)
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c.counters = append(c.counters, counter{d.name(), d.varint()})
	}
	return c
}

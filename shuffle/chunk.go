package shuffle

import (
	"github.com/dovetail-dedup/dovetail/mem"
)

// OpID names one shuffle operation: the same on all ranks, less than [MaxOps]. An id may be used again as
// soon as Wait has returned on the rank that uses it.
type OpID uint32

// MaxOps is the number of operation ids.
const MaxOps = 1 << 20

// Hash is a hash of a multiset of rows: the sums, modulo 2^64, of two independent 64-bit hashes of each
// row. It does not depend on the order of the rows or on how they are cut into chunks, and the hash of a
// union is the sum of the hashes, so a lost, doubled or changed row shows.
type Hash struct {
	A uint64 `json:"a"`
	B uint64 `json:"b"`
}

// Add returns the hash of the rows of both.
func (h Hash) Add(o Hash) Hash { return Hash{h.A + o.A, h.B + o.B} }

// Sub returns the hash of the rows of h without those of o.
func (h Hash) Sub(o Hash) Hash { return Hash{h.A - o.A, h.B - o.B} }

// Equal reports whether both are hashes of the same rows, but for an accident of one in 2^128.
func (h Hash) Equal(o Hash) bool { return h == o }

// Chunk is what is inserted, sent, spilled and extracted: rows of one partition from one task.
type Chunk struct {
	// Partition is where the rows belong, in [0, TotalParts).
	Partition int
	// Rows is the number of rows; the shuffle does not look into the data.
	Rows int64
	// Hash is the multiset hash of the rows, made by whoever made the rows. It may be zero if the program
	// has none; the ledger then counts chunks and rows only.
	Hash Hash
	// Meta is a short description of the data, such as a schema or a kind of record, of at most [MaxMeta]
	// bytes. Insert copies it; the Meta of an extracted chunk may be shared between chunks and must not be
	// changed.
	Meta []byte
	// Data is the payload in addressable memory, or nil. Insert takes ownership, Extract gives it. The
	// memory must have been charged to Options.Budget when it was allocated, as [Shuffler.Alloc] does: the
	// charge stays with the buffer wherever it goes in this process.
	Data *mem.Buffer

	// Task, Attempt, Sequence and Source say where an extracted chunk came from. Insert ignores them.
	Task     uint64
	Attempt  uint32
	Sequence uint64
	Source   int
}

// MaxMeta is the largest Chunk.Meta, in bytes.
const MaxMeta = 16 << 10

// Release gives the data back. It may be called again.
func (c *Chunk) Release() {
	c.Data.Release()
	c.Data = nil
}

// ReleaseAll releases every chunk.
func ReleaseAll(chunks []Chunk) {
	for i := range chunks {
		chunks[i].Release()
	}
}

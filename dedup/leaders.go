package dedup

import (
	"math/bits"
	"unsafe"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
)

// numLeaders is the number of pi-smallest members of a bucket that the others are tested against. It is
// a constant of the format: another value gives other results.
const numLeaders = 4

// bucketTable finds the leaders of every bucket of one band in one partition. Records are shown to it twice:
// add finds the leaders, and leadersOf then tells each member's. Its memory follows the number of distinct
// keys, about 40 bytes each, never the size of a bucket: a bucket that holds a tenth of all documents
// costs one entry.
//
// Adding commutes, because the four smallest of a union are the four smallest of the parts' four
// smallest; so the order in which chunks arrive cannot matter.
type bucketTable struct {
	slots   []uint32 // 1 + index of an entry, 0 if free; the length is a power of two
	entries []bucketEntry
	groups  []leaderGroup
}

type bucketEntry struct {
	key   uint64
	first flow.Ref // the only member so far, if group is 0
	group uint32   // 1 + index of a group once there are two members
}

type leaderGroup struct {
	n    int
	refs [numLeaders]flow.Ref // the first n are set, in pi order
}

// bucketTableBytes is the memory that a table takes for a number of distinct keys, at worst: while its arrays grow, and
// with room for the keys being spread unevenly over partitions.
func bucketTableBytes(keys int64) int64 { return keys * (32 + 16 + 16) * 2 }

// bandParts returns how many partitions the keys of a band, whose table would take a number of bytes, are spread over: so
// many that each has a table within an actor's share, and rather more where they are few, because a table that fits a
// processor's cache takes half the time.
func bandParts(table, share int64) int64 {
	const cached, few = 16 << 20, 64
	return max(1, (table+share-1)/share, min(few, table/cached))
}

func (t *bucketTable) reset() {
	clear(t.slots)
	t.entries, t.groups = t.entries[:0], t.groups[:0]
}

// bytes is the memory of the entries; arrays that grow take up to twice as much.
func (t *bucketTable) bytes() int64 {
	return int64(len(t.slots))*4 + int64(len(t.entries))*entryBytes + int64(len(t.groups))*groupBytes
}

const (
	entryBytes = int64(unsafe.Sizeof(bucketEntry{}))
	groupBytes = int64(unsafe.Sizeof(leaderGroup{}))
)

// retain drops the buckets of all other keys.
func (t *bucketTable) retain(key func(uint64) bool) {
	entries, groups := t.entries[:0], make([]leaderGroup, 0, len(t.groups)/2)
	for _, e := range t.entries {
		if !key(e.key) {
			continue
		}
		if e.group > 0 {
			groups = append(groups, t.groups[e.group-1])
			e.group = uint32(len(groups))
		}
		entries = append(entries, e)
	}
	t.entries, t.groups = entries, groups
	t.rehash(len(t.slots))
}

// add shows a member of the bucket of key to the table. It returns the entry of the bucket, which stays the same until retain.
func (t *bucketTable) add(key uint64, r flow.Ref) uint32 {
	if 2*(len(t.entries)+1) > len(t.slots) {
		t.grow()
	}
	slot := t.find(key)
	if t.slots[slot] == 0 {
		t.entries = append(t.entries, bucketEntry{key: key, first: r})
		t.slots[slot] = uint32(len(t.entries))
		return uint32(len(t.entries) - 1)
	}
	i := t.slots[slot] - 1
	e := &t.entries[i]
	if e.group == 0 {
		t.groups = append(t.groups, leaderGroup{})
		e.group = uint32(len(t.groups))
		t.groups[e.group-1].add(e.first)
	}
	t.groups[e.group-1].add(r)
	return i
}

// leadersOf returns the leaders of the bucket of key, in pi order, or nil if it has one member.
func (t *bucketTable) leadersOf(key uint64) []flow.Ref {
	if len(t.slots) == 0 {
		return nil
	}
	slot := t.find(key)
	if t.slots[slot] == 0 {
		return nil
	}
	return t.leadersAt(t.slots[slot] - 1)
}

// leadersAt is leadersOf for an entry that add returned.
func (t *bucketTable) leadersAt(entry uint32) []flow.Ref {
	g := t.entries[entry].group
	if g == 0 {
		return nil
	}
	return t.groups[g-1].refs[:t.groups[g-1].n]
}

// find returns the slot of key, or the free slot where it belongs.
func (t *bucketTable) find(key uint64) int {
	mask := len(t.slots) - 1
	// Keys are hashes, but those of one partition share bits; a multiply spreads what is left.
	hi, _ := bits.Mul64(key, 0x9e3779b97f4a7c15)
	for slot := int(hi) & mask; ; slot = (slot + 1) & mask {
		if i := t.slots[slot]; i == 0 || t.entries[i-1].key == key {
			return slot
		}
	}
}

func (t *bucketTable) grow() { t.rehash(max(1024, 2*len(t.slots))) }

func (t *bucketTable) rehash(slots int) {
	t.slots = make([]uint32, slots)
	for i, e := range t.entries {
		t.slots[t.find(e.key)] = uint32(i + 1)
	}
}

func (g *leaderGroup) add(r flow.Ref) {
	i := g.n
	if i == numLeaders {
		if !r.Before(g.refs[numLeaders-1]) {
			return
		}
		i--
	} else {
		g.n++
	}
	for i > 0 && r.Before(g.refs[i-1]) {
		g.refs[i] = g.refs[i-1]
		i--
	}
	g.refs[i] = r
}

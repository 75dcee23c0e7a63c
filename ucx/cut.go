//go:build ucx && cgo

package ucx

import (
	"unsafe"

	"github.com/dovetail-dedup/dovetail/mem"
)

const (
	// fragmentMost is the longest fragment of a payload, unless there would be too many: so that none takes long, and what is said
	// beside it does not wait.
	fragmentMost = 8 << 20
	// fragmentBits is the room for the number of a fragment in a tag.
	fragmentBits = 12
	numberBits   = 20
)

// longest returns how long the fragments of a payload of size bytes may be. Both ends compute it.
func longest(size int64) int64 {
	// With MaxPieces cuts from either end it stays below 1 << fragmentBits fragments.
	const most = 1<<fragmentBits - 1024
	return max(fragmentMost, (size+most-1)/most)
}

// cut appends to out the lengths of the fragments of a payload that lies in pieces of a at one end and of b at the other: none
// crosses an end of a piece or is longer than most. It is the same with a and b exchanged, so that both ends cut alike.
func cut(out, a, b []int64, most int64) []int64 {
	var i, j int
	var left, right int64 // of a[i] and b[j] that is done
	for i < len(a) && j < len(b) {
		n := min(a[i]-left, b[j]-right)
		for rest := n; rest > 0; rest -= min(rest, most) {
			out = append(out, min(rest, most))
		}
		if left += n; left == a[i] {
			i, left = i+1, 0
		}
		if right += n; right == b[j] {
			j, right = j+1, 0
		}
	}
	return out
}

// tag names a fragment of message number on a link whose tags begin with base.
func tag(base uint32, number uint64, fragment int) uint64 {
	return uint64(base)<<32 | number<<fragmentBits&(1<<(numberBits+fragmentBits)-1) | uint64(fragment)
}

// place walks through the memory of a list of buffers, fragment by fragment.
type place struct {
	piece int
	at    int64
}

// next returns where the next n bytes are, which lie in one buffer, and steps over them.
func (p *place) next(bufs []*mem.Buffer, n int64) (addr uint64, memory uint64, m *mem.Mapping) {
	b := bufs[p.piece]
	m = b.Mapping()
	if b.Tier() == mem.TierDevice {
		addr, memory = uint64(b.DeviceAddr()), memoryCUDA
	} else {
		addr = addressOf(b.Bytes())
	}
	addr += uint64(p.at)
	if p.at += n; p.at == int64(b.Len()) {
		p.piece, p.at = p.piece+1, 0
	}
	return addr, memory, m
}

func addressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// lengthsOf appends the lengths of buffers.
func lengthsOf(out []int64, bufs []*mem.Buffer) []int64 {
	for _, b := range bufs {
		out = append(out, int64(b.Len()))
	}
	return out
}

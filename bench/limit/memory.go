package limit

import "bytes"

// Copy copies src, which should be larger than the caches, to dst and returns the number of bytes.
func Copy(dst, src []byte) int { return copy(dst, src) }

// Read reads buf once with vector loads, and does nothing else: it looks for a byte that is not there. The result is the
// number of bytes read.
func Read(buf []byte, absent byte) int {
	if i := bytes.IndexByte(buf, absent); i >= 0 {
		return i
	}
	return len(buf)
}

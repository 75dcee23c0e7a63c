package lsh

// loops are the inner loops of the sketches, the only part that an instruction set replaces. Each works on a
// block of windows of one document, so that calling through a pointer costs nothing. All sets of loops give
// the same bits; the tests run every set in availableLoops against the reference.
type loops struct {
	name string

	// fastWindows sets dst[i] to the hash of points[i:i+width], where len(points) = len(dst)+width-1.
	fastWindows func(dst, points []uint32, width int, c *FastConstants, t *fastTables)
	// fastMap lowers slots[s] to the round 0 key of each hash in the slot s it is mapped to.
	fastMap func(slots, hashes []uint32)
	// fastMapAgain does the same for round 1.
	fastMapAgain func(slots, hashes []uint32, round uint32)
	// affineMin32 lowers least[j] to the least h*a[j]+b[j] mod 2^32 over hashes. least, a and b have the
	// same length.
	affineMin32 func(least, a, b, hashes []uint32)
	// affineMin64 lowers least[j] to the least (h*a[j]+b[j] mod 2^64) mod (2^61-1) over hashes.
	affineMin64 func(least, a, b, hashes []uint64)
}

// portableLoops are plain Go.
var portableLoops = loops{
	name:         "go",
	fastWindows:  fastWindowsGo,
	fastMap:      fastMapGo,
	fastMapAgain: fastMapAgainGo,
	affineMin32:  affineMin32Go,
	affineMin64:  affineMin64Go,
}

// availableLoops returns the sets of loops that this processor can run, the best first.
func availableLoops() []*loops { return []*loops{&portableLoops} }

//go:build !amd64 || purego

package rowloops

const combines = false

func murmur8([]uint32, []byte, uint32) (done int)                  { return 0 }
func fold8([]uint64, []uint64, []byte) (done int)                  { return 0 }
func foldEnd([]uint64, []uint64) (done int, sumA, sumB uint64)     { return 0, 0, 0 }
func recordSum2(words []uint64) (sumA, sumB uint64)                { return recordSum2Go(words) }
func scatter8([][]byte, [][]byte, int, []uint32, []uint32, []byte) {}

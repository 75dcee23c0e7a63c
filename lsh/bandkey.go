package lsh

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// Slot is the type of a signature's slots: uint64 for [Curator64] and uint32 otherwise.
type Slot interface{ uint32 | uint64 }

// BandKeyVersion is the version of [BandKey].
const BandKeyVersion = 1

// BandKey returns the 64-bit key of a band from its slots. Documents whose keys for the same band are equal
// become candidates. The number of the band takes part, so that keys of different bands share one space.
func BandKey[T Slot](band int, slots []T) uint64 {
	h := uint64(band+1) * 0x9e3779b97f4a7c15
	for _, v := range slots {
		h = (h ^ uint64(v)) * 0xd6e8feb86659fd93
		h ^= h >> 32
	}
	return murmurFinal64(h)
}

// CuratorBucket returns what NeMo Curator stores as _bucket_id: "b", the band's number and "_", followed by the
// MD5 of the slots' little-endian bytes in lower-case hexadecimal. Curator numbers bands from 0 in each
// iteration, so band is relative to the first band of the iteration.
func CuratorBucket[T Slot](band int, slots []T) string {
	var raw []byte
	for _, v := range slots {
		switch v := any(v).(type) {
		case uint32:
			raw = binary.LittleEndian.AppendUint32(raw, v)
		case uint64:
			raw = binary.LittleEndian.AppendUint64(raw, v)
		}
	}
	sum := md5.Sum(raw)
	return "b" + strconv.Itoa(band) + "_" + hex.EncodeToString(sum[:])
}

// Estimate returns the share of slots in which two signatures of the same length agree: an unbiased estimate
// of J with a standard deviation of at most sqrt(J(1-J)/n). It is 0 for empty signatures.
func Estimate[T Slot](a, b []T) float64 {
	if len(a) == 0 || len(a) != len(b) {
		return 0
	}
	equal := 0
	for i := range a {
		if a[i] == b[i] {
			equal++
		}
	}
	return float64(equal) / float64(len(a))
}

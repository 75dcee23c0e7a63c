//go:build !linux

package texts

// HalfOfMemory is no room: how much memory is available is not known here.
func HalfOfMemory() func(held, more int64) bool { return AtMost(0) }

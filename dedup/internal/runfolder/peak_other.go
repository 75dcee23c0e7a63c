//go:build !linux

package runfolder

// PeakMemory returns 0: this system does not tell in a portable way.
func PeakMemory() int64 { return 0 }

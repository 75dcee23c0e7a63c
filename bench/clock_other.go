//go:build !linux

package bench

import (
	"errors"
	"os"
	"time"
)

// threadTime is the clock on the wall where there is none for a thread.
func threadTime() (time.Duration, error) { return time.Since(started), nil }

var started = time.Now()

func dropCache(*os.File) error {
	return errors.New("no way to drop files from the page cache is known here")
}

func freeDisk(string) (int64, bool) { return 0, false }

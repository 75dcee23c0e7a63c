package lockfile

import "os"

// tryLock has nobody to lock out: WASI has no locks, and a program has the folders it was given to itself.
func tryLock(*os.File) error { return nil }

func unlock(*os.File) error { return nil }

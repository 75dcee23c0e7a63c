//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package lockfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock uses flock, whose lock belongs to the open file: unlike fcntl's it also excludes a second
// open in this process, and closing some other descriptor of the file does not drop it.
func tryLock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch err {
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			return errHeld
		}
		return err
	}
}

// unlock ends the lock, and not only this process's hold on it: a child that was forked and has yet to run its program has the file open, too.
func unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

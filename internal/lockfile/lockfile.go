// Package lockfile locks a folder for one process. The operating system drops the lock when its holder ends,
// however it ends, so there are no stale locks; the text in the file only says who the holder is.
package lockfile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// errHeld is returned by tryLock when another open file has the lock.
var errHeld = errors.New("lock is held")

// HeldError says who has the lock.
type HeldError struct {
	Path   string
	Holder string // such as "process 4711 on host a, since 2026-01-02T15:04:05Z"; empty if unknown
}

// Error names the file and the holder.
func (e *HeldError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another process"
	}
	return fmt.Sprintf("%s is locked by %s", e.Path, holder)
}

// Lock is a lock that is held.
type Lock struct{ f *os.File }

// Acquire locks the file at path, creating it if needed, without waiting. The error is a [HeldError] if
// another process, or another Lock of this one, has it.
func Acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		defer f.Close()
		if errors.Is(err, errHeld) {
			return nil, &HeldError{Path: path, Holder: holder(f)}
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text := fmt.Sprintf("process %d on host %s, since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// holder reads who has the lock. The holder may be about to write it; then it is empty.
func holder(f *os.File) string {
	buf := make([]byte, 512)
	n, _ := f.ReadAt(buf, 0) // only for a message
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '\uFFFD' {
			return -1
		}
		return r
	}, string(buf[:n]))
}

// AcquireTemporary is [Acquire] for a file that is there only while it is locked: give the lock back with [Lock.Remove]. A
// holder that was killed leaves the file, which the next one takes over.
func AcquireTemporary(path string) (*Lock, error) {
	for {
		l, err := Acquire(path)
		if err != nil {
			return nil, err
		}
		// Between opening and locking, the holder before may have removed the file; then this lock is of no use.
		mine, err := l.f.Stat()
		if err == nil {
			var there os.FileInfo
			if there, err = os.Stat(path); err == nil && os.SameFile(mine, there) {
				return l, nil
			}
		}
		if cerr := l.f.Close(); err == nil || errors.Is(err, os.ErrNotExist) {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
	}
}

// Remove removes the file of [AcquireTemporary] and unlocks, in this order, so that whoever has the file open by then finds
// out that it is gone.
func (l *Lock) Remove() error {
	return errors.Join(os.Remove(l.f.Name()), unlock(l.f), l.f.Close())
}

// Release unlocks. The file stays: removing it would let two processes lock two files of one name.
func (l *Lock) Release() error { return errors.Join(unlock(l.f), l.f.Close()) }

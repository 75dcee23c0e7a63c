package executor

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
)

// File is a file being written by an attempt: sequentially, through a buffer of 64 KiB that the budget does
// not count, and by one goroutine at a time.
type File struct {
	fs     vfs.FS
	file   vfs.File
	w      *bufio.Writer // nil once closed
	of     *meter        // of the attempt that writes it
	name   string
	path   string // where it ends
	temp   string // where it is until then
	placed bool
	size   int64
	crc    uint32
	closed bool
	err    error

	perm  fs.FileMode // with mtime, what Like said; mtime is zero if it was not called
	mtime time.Time

	early  bool // its descriptor is closed by Close, not by the commit
	behind bool // a barrier syncs it
}

var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

// Write appends p. The first error of any Write is also returned by Close and fails the attempt.
func (f *File) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.closed {
		return 0, fmt.Errorf("executor: writing %s: %w", f.name, os.ErrClosed)
	}
	n, err := f.w.Write(p)
	f.size += int64(n)
	f.crc = crc32.Update(f.crc, castagnoli, p[:n])
	if err != nil {
		f.err = f.ioError("writing", err)
		return n, f.err
	}
	return n, nil
}

// Close ends the file. It must be called before the attempt's Process or Extract returns nil: a file left
// open fails the attempt. The data is on disk only once the attempt has committed.
func (f *File) Close() error {
	if f.closed {
		return f.err
	}
	f.closed = true
	if err := f.w.Flush(); err != nil && f.err == nil {
		f.err = f.ioError("writing", err)
	}
	f.recycle()
	if f.of != nil {
		defer f.of.wrote(time.Now())
	}
	if !f.mtime.IsZero() && f.err == nil {
		if err := f.fs.Attributes(f.temp, f.perm, f.mtime); err != nil {
			f.err = f.ioError("setting the permissions and the time of", err)
		}
	}
	// The descriptor stays open until the file is synced: an error of writing it back is certain to be
	// reported only to descriptors that were open at the time. A barrier is such a descriptor.
	if f.early && f.err == nil {
		f.err = f.sync()
	}
	return f.err
}

func (f *File) recycle() {
	f.w.Reset(nil)
	writers.Put(f.w)
	f.w = nil
}

// Like makes Close give the file these permission bits and this time of the last change.
func (f *File) Like(perm fs.FileMode, mtime time.Time) { f.perm, f.mtime = perm.Perm(), mtime }

// Name is how the file is called once committed: for [Attempt.Create] a slash-separated path relative to the
// work folder, to be put into result tasks; for [Attempt.Place] the absolute path.
func (f *File) Name() string { return f.name }

// Size is the number of bytes written so far.
func (f *File) Size() int64 { return f.size }

func (f *File) info() fileInfo {
	return fileInfo{name: f.name, placed: f.placed, size: f.size, crc: f.crc}
}

func (f *File) ioError(doing string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) && p.Path == f.temp {
		err = p.Err // the temporary name says nothing
	}
	return ioError(doing+" "+f.path, err)
}

// sync puts the content on disk and closes the descriptor, if that has not been done.
func (f *File) sync() error {
	if f.file == nil {
		return nil
	}
	var err error
	if !f.behind {
		err = f.file.Sync()
	}
	if cerr := f.file.Close(); err == nil {
		err = cerr
	}
	f.file = nil
	if err != nil {
		return f.ioError("syncing", err)
	}
	return nil
}

func (f *File) rename() error {
	if err := f.fs.Rename(f.temp, f.path); err != nil {
		return ioError("putting a finished file in place", err)
	}
	return nil
}

func (f *File) discard() {
	if f.w != nil {
		f.closed = true
		f.recycle()
	}
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
	_ = f.fs.Remove(f.temp)
}

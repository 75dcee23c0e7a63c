// Package vfs is the little of a file system that committing results needs, so that tests can put a disk
// under it that is full, or that forgets what was not synced.
package vfs

import (
	"io"
	"io/fs"
	"os"
	"time"
)

// FS opens, lists and renames files by their paths in the operating system's form.
type FS interface {
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	MkdirAll(path string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(path string) error
	Stat(path string) (fs.FileInfo, error)
	// Attributes sets the permission bits and the time of the last change of a file.
	Attributes(path string, perm fs.FileMode, mtime time.Time) error
	ReadDir(path string) ([]fs.DirEntry, error)
	// SyncDir puts the names in a folder on disk. Systems on which a folder cannot be synced do nothing.
	SyncDir(path string) error
	// OpenBarrier opens a [Barrier] on the file system of a folder. It fails where there is no such thing.
	OpenBarrier(dir string) (Barrier, error)
}

// Barrier puts everything on disk that was written to one file system since it was opened, in one go. Syncing
// thousands of small files one by one takes as many turns of the disk.
type Barrier interface {
	// Covers reports whether a folder is on the same file system.
	Covers(dir string) bool
	Sync() error
	io.Closer
}

// File is an open file.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Attributes(path string, perm fs.FileMode, mtime time.Time) error {
	if err := os.Chtimes(path, mtime, mtime); err != nil {
		return err
	}
	return os.Chmod(path, perm)
}

func (osFS) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err // not a nil *os.File in a File
	}
	return f, nil
}

func (osFS) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }
func (osFS) Rename(from, to string) error                 { return os.Rename(from, to) }
func (osFS) Remove(path string) error                     { return os.Remove(path) }
func (osFS) Stat(path string) (fs.FileInfo, error)        { return os.Stat(path) }
func (osFS) ReadDir(path string) ([]fs.DirEntry, error)   { return os.ReadDir(path) }
func (osFS) SyncDir(path string) error                    { return syncDir(path) }
func (osFS) OpenBarrier(dir string) (Barrier, error)      { return openBarrier(dir) }

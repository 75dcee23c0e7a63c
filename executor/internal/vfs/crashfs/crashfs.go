// Package crashfs is a file system in memory that can lose its power. What was not synced is then kept, lost or
// kept in part, as a seed decides, under the weakest promises that POSIX systems make:
//
//   - Sync of a file puts its content on disk, not its name. SyncDir puts the names in one folder on disk.
//   - Renaming replaces a name at once: afterwards there is the old file or the new one.
//   - Changes of names in one folder reach the disk in order; those of different folders, and writes
//     to files, in any order. A write may reach the disk in part, in sectors of 512 bytes.
//
// It is for tests. Paths are absolute and in the operating system's form. Safe for concurrent use.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
)

// ErrPowerOff is returned by every operation after the power was lost.
var ErrPowerOff = errors.New("power is off")

// FS is the file system.
type FS struct {
	mu   sync.Mutex
	root *node
	ops  int
	stop int // the operation before which power is lost; < 0 means never
	room int // bytes that may still be written; < 0 means any
}

// node is a file or a folder: what it is now, and what is on disk.
type node struct {
	dir     bool
	data    []byte
	names   map[string]*node
	onDisk  []byte
	pending []change // of a file, since it was synced
	saved   map[string]*node
	renames []func(map[string]*node) // changes of names since the folder was synced
}

type change struct {
	truncate bool
	off      int64
	data     []byte
}

// New returns an empty file system.
func New() *FS { return &FS{root: newDir(), stop: -1, room: -1} }

func newDir() *node {
	return &node{dir: true, names: make(map[string]*node), saved: make(map[string]*node)}
}

// StopAfter lets the power fail after n more operations.
func (s *FS) StopAfter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = s.ops + n
}

// Fill lets writes fail as on a full disk after n more bytes.
func (s *FS) Fill(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = n
}

// Ops returns the number of operations so far.
func (s *FS) Ops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops
}

// Crash returns the file system as it is found after the power was lost now.
func (s *FS) Crash(rng *rand.Rand) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	after := New()
	after.root = s.root.crash(rng)
	return after
}

func (n *node) crash(rng *rand.Rand) *node {
	if !n.dir {
		data := slices.Clone(n.onDisk)
		for _, c := range n.pending {
			data = c.crash(data, rng)
		}
		return &node{data: data, onDisk: slices.Clone(data)}
	}
	names := maps.Clone(n.saved)
	if len(n.renames) > 0 {
		for _, apply := range n.renames[:rng.IntN(len(n.renames)+1)] {
			apply(names)
		}
	}
	out := newDir()
	for _, name := range slices.Sorted(maps.Keys(names)) { // sorted: one seed, one outcome
		c := names[name].crash(rng)
		out.names[name], out.saved[name] = c, c
	}
	return out
}

// crash applies a change to data wholly, in part or not at all.
func (c change) crash(data []byte, rng *rand.Rand) []byte {
	if c.truncate {
		if rng.IntN(2) == 0 {
			data = resize(data, c.off)
		}
		return data
	}
	if rng.IntN(4) == 0 {
		return data
	}
	const sector = 512
	whole := rng.IntN(2) == 0
	for off, rest := c.off, c.data; len(rest) > 0; {
		n := min(len(rest), int(sector-off%sector))
		if whole || rng.IntN(2) == 0 {
			data = write(data, rest[:n], off)
		} else if rng.IntN(2) == 0 {
			data = resize(data, max(int64(len(data)), off+int64(n))) // the length is known, the content is not
		}
		off, rest = off+int64(n), rest[n:]
	}
	return data
}

func resize(data []byte, n int64) []byte {
	if int64(len(data)) >= n {
		return data[:n]
	}
	return append(data, make([]byte, n-int64(len(data)))...)
}

func write(data, p []byte, off int64) []byte {
	data = resize(data, max(int64(len(data)), off+int64(len(p))))
	copy(data[off:], p)
	return data
}

// op counts an operation and fails if the power is off. The lock is held.
func (s *FS) op(name, path string) error {
	if s.stop >= 0 && s.ops >= s.stop {
		return &fs.PathError{Op: name, Path: path, Err: ErrPowerOff}
	}
	s.ops++
	return nil
}

// find returns the folder that path is in, the last name of path, and what has that name, which may be nil.
func (s *FS) find(op, path string) (dir *node, name string, n *node, err error) {
	n = s.root
	for rest := filepath.ToSlash(filepath.Clean(path))[1:]; rest != ""; {
		i := slices.Index([]byte(rest), '/')
		name, rest = rest, ""
		if i >= 0 {
			name, rest = name[:i], name[i+1:]
		}
		if dir = n; dir == nil || !dir.dir {
			return nil, "", nil, &fs.PathError{Op: op, Path: path, Err: syscall.ENOENT}
		}
		n = dir.names[name]
	}
	return dir, name, n, nil
}

// set changes names in dir, now, and later on disk.
func (dir *node) set(apply func(map[string]*node)) {
	apply(dir.names)
	dir.renames = append(dir.renames, apply)
}

// OpenFile opens a file as os.OpenFile does; O_APPEND is not supported.
func (s *FS) OpenFile(path string, flag int, _ fs.FileMode) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("open", path); err != nil {
		return nil, err
	}
	dir, name, n, err := s.find("open", path)
	switch {
	case err != nil:
		return nil, err
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EEXIST}
	case n != nil && n.dir:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case n == nil:
		n = &node{}
		dir.set(func(names map[string]*node) { names[name] = n })
	case flag&os.O_TRUNC != 0:
		n.truncate(0)
	}
	return &file{s: s, n: n, path: path}, nil
}

func (n *node) truncate(size int64) {
	n.data = resize(n.data, size)
	n.pending = append(n.pending, change{truncate: true, off: size})
}

// MkdirAll makes a folder and those above it.
func (s *FS) MkdirAll(path string, _ fs.FileMode) error {
	path = filepath.Clean(path)
	if parent := filepath.Dir(path); parent != path {
		if err := s.MkdirAll(parent, 0); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("mkdir", path); err != nil {
		return err
	}
	dir, name, n, err := s.find("mkdir", path)
	if err == nil && n == nil {
		n = newDir()
		dir.set(func(names map[string]*node) { names[name] = n })
	}
	return err
}

// Rename gives a file another name in the same folder.
func (s *FS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("rename", from); err != nil {
		return err
	}
	dir, old, n, err := s.find("rename", from)
	if err != nil || n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: syscall.ENOENT}
	}
	other, name, _, err := s.find("rename", to)
	if err != nil || other != dir {
		return &fs.PathError{Op: "rename", Path: to, Err: errors.ErrUnsupported}
	}
	dir.set(func(names map[string]*node) {
		names[name] = n
		delete(names, old)
	})
	return nil
}

// Remove deletes a file.
func (s *FS) Remove(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("remove", path); err != nil {
		return err
	}
	dir, name, n, err := s.find("remove", path)
	if err != nil || n == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	}
	dir.set(func(names map[string]*node) { delete(names, name) })
	return nil
}

// Attributes can fail and has no other effect.
func (s *FS) Attributes(path string, _ fs.FileMode, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.op("attributes", path)
}

// Stat describes a file or folder.
func (s *FS) Stat(path string) (fs.FileInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("stat", path); err != nil {
		return nil, err
	}
	_, name, n, err := s.find("stat", path)
	if err != nil || n == nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: syscall.ENOENT}
	}
	return info{name, n.dir, int64(len(n.data))}, nil
}

// ReadDir lists a folder.
func (s *FS) ReadDir(path string) ([]fs.DirEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("readdir", path); err != nil {
		return nil, err
	}
	_, _, n, err := s.find("readdir", path)
	if err != nil || n == nil {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: syscall.ENOENT}
	}
	var out []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		c := n.names[name]
		out = append(out, fs.FileInfoToDirEntry(info{name, c.dir, int64(len(c.data))}))
	}
	return out, nil
}

// SyncDir puts the names in a folder on disk.
func (s *FS) SyncDir(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.op("sync", path); err != nil {
		return err
	}
	_, _, n, err := s.find("sync", path)
	if err != nil || n == nil {
		return &fs.PathError{Op: "sync", Path: path, Err: syscall.ENOENT}
	}
	n.saved, n.renames = maps.Clone(n.names), nil
	return nil
}

// OpenBarrier opens a barrier on the file system.
func (s *FS) OpenBarrier(string) (vfs.Barrier, error) { return barrier{s}, nil }

type barrier struct{ s *FS }

func (b barrier) Covers(string) bool { return true }
func (b barrier) Close() error       { return nil }

// Sync puts everything on disk.
func (b barrier) Sync() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if err := b.s.op("syncfs", "/"); err != nil {
		return err
	}
	var all func(n *node)
	all = func(n *node) {
		if !n.dir {
			n.onDisk, n.pending = slices.Clone(n.data), nil
			return
		}
		n.saved, n.renames = maps.Clone(n.names), nil
		for _, c := range n.names {
			all(c)
		}
	}
	all(b.s.root)
	return nil
}

type info struct {
	name string
	dir  bool
	size int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}

// file is an open file.
type file struct {
	s    *FS
	n    *node
	path string
	at   int64
}

func (f *file) Name() string { return f.path }

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.op("write", f.path); err != nil {
		return 0, err
	}
	if f.s.room >= 0 {
		if len(p) > f.s.room {
			p, err = p[:f.s.room], &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
		}
		f.s.room -= len(p)
	}
	f.n.data = write(f.n.data, p, off)
	f.n.pending = append(f.n.pending, change{off: off, data: slices.Clone(p)})
	return len(p), err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.op("read", f.path); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Sync() error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.op("sync", f.path); err != nil {
		return err
	}
	f.n.onDisk, f.n.pending = slices.Clone(f.n.data), nil
	return nil
}

func (f *file) Truncate(size int64) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.op("truncate", f.path); err != nil {
		return err
	}
	f.n.truncate(size)
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return info{filepath.Base(f.path), false, int64(len(f.n.data))}, nil
}

func (f *file) Close() error { return nil }

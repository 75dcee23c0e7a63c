package simulate

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
	wasys "github.com/tetratelabs/wazero/sys"
)

// disk is a file system in memory that forgets what was not synced when the machine stops: the content of a file since the
// last sync of the file, and names since the last sync of their folder. Its errors are decided by before.
type disk struct {
	sys.UnimplementedFS
	root *node
	inos uint64
	now  func() int64 // ns since 1970
	// spared folders are those of the guest itself: what is in them never gets lost.
	spared []string
	// before is asked before every operation that changes something, or opens a file: what it returns is the outcome.
	before func(op, path string) sys.Errno
}

// node is a file or folder.
type node struct {
	ino    uint64
	mode   fs.FileMode
	mtime  int64
	data   []byte
	synced []byte
	dir    map[string]*node // of a folder
	safe   map[string]*node // dir at its last sync
}

func newDisk(now func() int64) *disk {
	d := &disk{now: now}
	d.root = d.folder()
	d.before = func(string, string) sys.Errno { return 0 }
	return d
}

func (d *disk) folder() *node {
	d.inos++
	return &node{ino: d.inos, mode: fs.ModeDir | 0o777, mtime: d.now(), dir: map[string]*node{}, safe: map[string]*node{}}
}

// crash forgets what was not synced; of each thing that was not, rng decides whether it had reached the disk by chance.
func (d *disk) crash(rng *rand.Rand) {
	seen := make(map[*node]bool)
	for _, p := range d.spared {
		if n, _, _, _ := d.find(p); n != nil {
			seen[n] = true
		}
	}
	var visit func(n *node)
	visit = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if n.dir == nil {
			n.data = survivor(rng, n.synced, n.data)
			n.synced = slices.Clone(n.data)
			return
		}
		names := slices.Collect(maps.Keys(n.dir))
		for name := range n.safe {
			if n.dir[name] == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		// Mostly all is lost or nothing is, as on real disks; sometimes each name for itself.
		luck := rng.IntN(3)
		after := make(map[string]*node)
		for _, name := range names {
			was, is := n.safe[name], n.dir[name]
			if was != is && !seen[is] && (luck == 0 || luck == 1 && rng.IntN(2) == 0) {
				is = was
			}
			if is != nil {
				after[name] = is
			}
		}
		n.dir, n.safe = after, maps.Clone(after)
		for _, name := range slices.Sorted(maps.Keys(after)) {
			visit(after[name])
		}
	}
	visit(d.root)
}

// survivor is what is left of a file.
func survivor(rng *rand.Rand, synced, now []byte) []byte {
	switch rng.IntN(4) {
	case 0:
		return now
	case 1: // its length, but not its content, or not all of it
		out := make([]byte, len(now))
		n := 0
		if len(now) > 0 {
			n = rng.IntN(len(now) + 1)
		}
		copy(out, now[:n])
		copy(out, synced[:min(len(synced), len(out))])
		return out
	}
	return synced
}

// sync makes everything safe, as when a machine stops in order.
func (d *disk) sync() {
	var visit func(n *node)
	visit = func(n *node) {
		n.synced = slices.Clone(n.data)
		n.safe = maps.Clone(n.dir)
		for _, c := range n.dir {
			visit(c)
		}
	}
	visit(d.root)
}

// list returns the paths of all files.
func (d *disk) list() []string {
	var paths []string
	var visit func(n *node, at string)
	visit = func(n *node, at string) {
		if n.dir == nil {
			paths = append(paths, at)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(n.dir)) {
			visit(n.dir[name], path.Join(at, name))
		}
	}
	visit(d.root, "/")
	return paths
}

// under returns the files in a folder, and what is in them.
func (d *disk) under(dir string) map[string]string {
	files := make(map[string]string)
	for _, p := range d.list() {
		if strings.HasPrefix(p, dir+"/") {
			n, _, _, _ := d.find(p)
			files[p] = string(n.data)
		}
	}
	return files
}

// find returns the node at a path, and where it is or would be.
func (d *disk) find(p string) (n, parent *node, name string, errno sys.Errno) {
	p = strings.Trim(path.Clean("/"+p), "/")
	n = d.root
	if p == "" {
		return n, nil, "", 0
	}
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if n == nil {
			return nil, nil, "", sys.ENOENT
		}
		if n.dir == nil {
			return nil, nil, "", sys.ENOTDIR
		}
		parent, name = n, part
		n = n.dir[part]
		if n == nil && i < len(parts)-1 {
			return nil, nil, "", sys.ENOENT
		}
	}
	return n, parent, name, 0
}

// existing is find for what must be there.
func (d *disk) existing(p string) (*node, *node, string, sys.Errno) {
	n, parent, name, errno := d.find(p)
	if errno == 0 && n == nil {
		errno = sys.ENOENT
	}
	return n, parent, name, errno
}

func (n *node) stat() wasys.Stat_t {
	return wasys.Stat_t{
		Dev: 1, Ino: n.ino, Mode: n.mode, Nlink: 1, Size: int64(len(n.data)), Atim: n.mtime, Mtim: n.mtime, Ctim: n.mtime,
	}
}

func (d *disk) OpenFile(p string, flag sys.Oflag, perm fs.FileMode) (sys.File, sys.Errno) {
	n, parent, name, errno := d.find(p)
	if errno != 0 {
		return nil, errno
	}
	write := flag&(sys.O_RDWR|sys.O_WRONLY) != 0
	if errno := d.before("open", p); errno != 0 {
		return nil, errno
	}
	switch {
	case n == nil && flag&sys.O_CREAT == 0:
		return nil, sys.ENOENT
	case n == nil:
		d.inos++
		n = &node{ino: d.inos, mode: perm & 0o777, mtime: d.now()}
		parent.dir[name] = n
	case flag&(sys.O_CREAT|sys.O_EXCL) == sys.O_CREAT|sys.O_EXCL:
		return nil, sys.EEXIST
	case n.dir != nil && write:
		return nil, sys.EISDIR
	case n.dir == nil && flag&sys.O_DIRECTORY != 0:
		return nil, sys.ENOTDIR
	case flag&sys.O_TRUNC != 0:
		n.data, n.mtime = nil, d.now()
	}
	return &handle{d: d, n: n, path: p, write: write, append: flag&sys.O_APPEND != 0}, 0
}

func (d *disk) Stat(p string) (wasys.Stat_t, sys.Errno) {
	n, _, _, errno := d.existing(p)
	if errno != 0 {
		return wasys.Stat_t{}, errno
	}
	return n.stat(), 0
}

func (d *disk) Lstat(p string) (wasys.Stat_t, sys.Errno) { return d.Stat(p) }

func (d *disk) Mkdir(p string, _ fs.FileMode) sys.Errno {
	n, parent, name, errno := d.find(p)
	switch {
	case errno != 0:
		return errno
	case n != nil:
		return sys.EEXIST
	}
	if errno := d.before("mkdir", p); errno != 0 {
		return errno
	}
	parent.dir[name] = d.folder()
	return 0
}

func (d *disk) Chmod(p string, perm fs.FileMode) sys.Errno {
	n, _, _, errno := d.existing(p)
	if errno == 0 {
		n.mode = n.mode&^0o777 | perm&0o777
	}
	return errno
}

func (d *disk) Utimens(p string, _, mtim int64) sys.Errno {
	n, _, _, errno := d.existing(p)
	if errno == 0 {
		n.mtime = mtim
	}
	return errno
}

func (d *disk) Rename(from, to string) sys.Errno {
	n, parent, name, errno := d.existing(from)
	if errno != 0 {
		return errno
	}
	old, newParent, newName, errno := d.find(to)
	switch {
	case errno != 0:
		return errno
	case parent == nil || newParent == nil:
		return sys.EINVAL
	case old == n:
		return 0
	case old != nil && old.dir != nil && n.dir == nil:
		return sys.EISDIR
	case old != nil && old.dir == nil && n.dir != nil:
		return sys.ENOTDIR
	case old != nil && len(old.dir) > 0:
		return sys.ENOTEMPTY
	}
	if errno := d.before("rename", to); errno != 0 {
		return errno
	}
	delete(parent.dir, name)
	newParent.dir[newName] = n
	return 0
}

func (d *disk) Rmdir(p string) sys.Errno {
	n, parent, name, errno := d.existing(p)
	switch {
	case errno != 0:
		return errno
	case n.dir == nil:
		return sys.ENOTDIR
	case len(n.dir) > 0:
		return sys.ENOTEMPTY
	case parent == nil:
		return sys.EINVAL
	}
	if errno := d.before("rmdir", p); errno != 0 {
		return errno
	}
	delete(parent.dir, name)
	return 0
}

func (d *disk) Unlink(p string) sys.Errno {
	n, parent, name, errno := d.existing(p)
	switch {
	case errno != 0:
		return errno
	case n.dir != nil:
		return sys.EISDIR
	}
	if errno := d.before("remove", p); errno != 0 {
		return errno
	}
	delete(parent.dir, name)
	return 0
}

// handle is an open file or folder.
type handle struct {
	sys.UnimplementedFile
	d      *disk
	n      *node
	path   string
	at     int64
	write  bool
	append bool
	names  []string // of a folder that is being read
	listed bool
}

func (h *handle) Dev() (uint64, sys.Errno)        { return 1, 0 }
func (h *handle) Ino() (wasys.Inode, sys.Errno)   { return h.n.ino, 0 }
func (h *handle) IsDir() (bool, sys.Errno)        { return h.n.dir != nil, 0 }
func (h *handle) IsAppend() bool                  { return h.append }
func (h *handle) SetAppend(on bool) sys.Errno     { h.append = on; return 0 }
func (h *handle) Stat() (wasys.Stat_t, sys.Errno) { return h.n.stat(), 0 }
func (h *handle) Close() sys.Errno                { return 0 }
func (h *handle) Datasync() sys.Errno             { return h.Sync() }
func (h *handle) Utimens(_, mtim int64) sys.Errno { h.n.mtime = mtim; return 0 }
func (h *handle) Read(buf []byte) (int, sys.Errno) {
	n, e := h.Pread(buf, h.at)
	h.at += int64(n)
	return n, e
}
func (h *handle) Write(buf []byte) (int, sys.Errno) {
	if h.append {
		h.at = int64(len(h.n.data))
	}
	n, errno := h.Pwrite(buf, h.at)
	h.at += int64(n)
	return n, errno
}

func (h *handle) Pread(buf []byte, off int64) (int, sys.Errno) {
	switch {
	case h.n.dir != nil:
		return 0, sys.EISDIR
	case off < 0:
		return 0, sys.EINVAL
	case off >= int64(len(h.n.data)):
		return 0, 0
	}
	return copy(buf, h.n.data[off:]), 0
}

func (h *handle) Pwrite(buf []byte, off int64) (int, sys.Errno) {
	switch {
	case h.n.dir != nil:
		return 0, sys.EISDIR
	case !h.write:
		return 0, sys.EBADF
	case off < 0:
		return 0, sys.EINVAL
	}
	if errno := h.d.before("write", h.path); errno != 0 {
		return 0, errno
	}
	h.grow(off + int64(len(buf)))
	h.n.mtime = h.d.now()
	return copy(h.n.data[off:], buf), 0
}

func (h *handle) grow(size int64) {
	if more := size - int64(len(h.n.data)); more > 0 {
		h.n.data = append(h.n.data, make([]byte, more)...)
	}
}

func (h *handle) Truncate(size int64) sys.Errno {
	if !h.write || size < 0 {
		return sys.EINVAL
	}
	if errno := h.d.before("truncate", h.path); errno != 0 {
		return errno
	}
	h.grow(size)
	h.n.data, h.n.mtime = h.n.data[:size:size], h.d.now()
	return 0
}

// offset is int64 under a name by which vet does not take Seek for io.Seeker's.
type offset = int64

func (h *handle) Seek(offset offset, whence int) (int64, sys.Errno) {
	if h.n.dir != nil {
		if offset != 0 || whence != io.SeekStart {
			return 0, sys.EINVAL
		}
		h.listed = false
		return 0, 0
	}
	switch whence {
	case io.SeekCurrent:
		offset += h.at
	case io.SeekEnd:
		offset += int64(len(h.n.data))
	}
	if offset < 0 {
		return 0, sys.EINVAL
	}
	h.at = offset
	return offset, 0
}

func (h *handle) Readdir(n int) ([]sys.Dirent, sys.Errno) {
	if h.n.dir == nil {
		return nil, sys.ENOTDIR
	}
	if !h.listed {
		h.listed, h.names = true, slices.Sorted(maps.Keys(h.n.dir))
	}
	if n <= 0 || n > len(h.names) {
		n = len(h.names)
	}
	var list []sys.Dirent
	for _, name := range h.names[:n] {
		if c := h.n.dir[name]; c != nil {
			list = append(list, sys.Dirent{Ino: c.ino, Name: name, Type: c.mode.Type()})
		}
	}
	h.names = h.names[n:]
	return list, 0
}

func (h *handle) Sync() sys.Errno {
	if errno := h.d.before("sync", h.path); errno != 0 {
		return errno
	}
	if h.n.dir != nil {
		h.n.safe = maps.Clone(h.n.dir)
	} else {
		h.n.synced = slices.Clone(h.n.data)
	}
	return 0
}

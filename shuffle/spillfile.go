package shuffle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// spillStore holds the chunks of one operation on one rank that were moved to disk. They are written one
// after another to a file, each as its header, its meta and its data; when a file is long enough the next
// one is begun, and a file none of whose chunks is needed any more is deleted, so the disk space follows
// the need. Where the system allows it a file is unlinked as soon as it is open: a process that is killed
// leaves nothing behind.
type spillStore struct {
	dir, prefix string
	limit       int64 // a file is full at this many bytes

	mu     sync.Mutex // guards all below, and makes writing sequential
	last   *spillFile
	files  map[*spillFile]struct{}
	buf    []byte // gathers headers and small chunks into one write
	closed bool
}

type spillFile struct {
	f      *os.File
	name   string // empty once unlinked
	size   int64
	chunks int // that are still needed
}

// diskRef is the place of one chunk.
type diskRef struct {
	file *spillFile
	off  int64
}

const (
	spillFileLimit = 256 << 20
	spillGather    = 64 << 10 // chunks below are gathered into one write
)

func newSpillStore(dir, prefix string) *spillStore {
	return &spillStore{dir: dir, prefix: prefix, limit: spillFileLimit, files: make(map[*spillFile]struct{})}
}

// write appends chunks and stores in each where it is.
func (d *spillStore) write(vs []victim) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("%w: %w", ErrSpill, ErrClosed)
	}
	if d.last == nil || d.last.size >= d.limit {
		if err := d.begin(); err != nil {
			return err
		}
	}
	file := d.last
	off := file.size
	d.buf = d.buf[:0]
	for i := range vs {
		v := &vs[i]
		v.ref = diskRef{file, off + int64(len(d.buf))}
		d.buf = appendChunkHeader(d.buf, &v.header)
		d.buf = append(d.buf, v.meta...)
		data := v.data.Bytes()
		if len(data) < spillGather {
			d.buf = append(d.buf, data...)
			data = nil
		}
		if len(data) > 0 || len(d.buf) >= 4*spillGather {
			for _, b := range [2][]byte{d.buf, data} {
				n, err := file.f.WriteAt(b, off)
				off += int64(n)
				if err != nil {
					return d.fault(file, "write", err)
				}
			}
			d.buf = d.buf[:0]
		}
	}
	if _, err := file.f.WriteAt(d.buf, off); err != nil {
		return d.fault(file, "write", err)
	}
	file.size = off + int64(len(d.buf))
	file.chunks += len(vs)
	return nil
}

// begin opens the next file.
func (d *spillStore) begin() error {
	f, err := os.CreateTemp(d.dir, d.prefix+"*.spill")
	if err != nil {
		return fmt.Errorf("%w: cannot create one in %s (choose another folder for spill files): %w", ErrSpill, d.dir, err)
	}
	d.last = &spillFile{f: f, name: f.Name()}
	if os.Remove(f.Name()) == nil {
		d.last.name = ""
	}
	d.files[d.last] = struct{}{}
	return nil
}

func (d *spillStore) fault(file *spillFile, what string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err // the path is said already
	}
	return fmt.Errorf("%w: cannot %s %s (%d bytes long; free space on that disk or choose another folder): %w",
		ErrSpill, what, file.f.Name(), file.size, err)
}

// read fills data with the data of a chunk and returns its meta. The header on disk must be the one in
// memory, and the checksum must hold.
func (d *spillStore) read(it *item, ref diskRef, data []byte) (meta []byte, err error) {
	b := make([]byte, ChunkHeaderSize+it.metaLen)
	if err := readFullAt(ref.file.f, b, ref.off); err != nil {
		return nil, d.readFault(it, ref, err)
	}
	if err := readFullAt(ref.file.f, data, ref.off+int64(len(b))); err != nil {
		return nil, d.readFault(it, ref, err)
	}
	var h chunkHeader
	if err := decodeChunkHeader(b, &h); err != nil {
		return nil, d.readFault(it, ref, err)
	}
	meta = b[ChunkHeaderSize:]
	if h != it.chunkHeader {
		return nil, d.readFault(it, ref, corrupt("another chunk is in its place"))
	}
	if sum := chunkSum(data, meta); sum != h.checksum {
		return nil, d.readFault(it, ref, corrupt("checksum is %#08x, should be %#08x", sum, h.checksum))
	}
	return meta, nil
}

func (d *spillStore) readFault(it *item, ref diskRef, err error) error {
	if errors.Is(err, fs.ErrClosed) {
		err = ErrClosed
	}
	return fmt.Errorf("%w: %s at %d, task %d, partition %d: %w",
		ErrSpill, ref.file.f.Name(), ref.off, it.task, it.part, err)
}

// readFullAt is io.ReadFull at an offset; a file that ends early is corrupted.
func readFullAt(f *os.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return corrupt("file ends at %d", off+int64(n))
	}
	return err
}

// free says that a chunk is not needed any more.
func (d *spillStore) free(ref diskRef) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := ref.file
	file.chunks--
	if file.chunks > 0 || d.closed {
		return
	}
	if file == d.last {
		d.last = nil
	}
	d.remove(file)
}

// remove deletes a file. Errors do not matter: its contents are not needed.
func (d *spillStore) remove(file *spillFile) {
	delete(d.files, file)
	_ = file.f.Close()
	if file.name != "" {
		_ = os.Remove(file.name)
	}
}

// close deletes all files.
func (d *spillStore) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for file := range d.files {
		d.remove(file)
	}
}

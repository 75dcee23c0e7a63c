// Package framelog keeps an append-only file of checksummed frames, the ground a commit log stands on.
//
// A frame is a payload with a header of 28 bytes, little-endian:
//
//	magic   uint32  0x67766f64
//	length  uint32  bytes of payload
//	offset  uint64  where the frame starts in the file
//	synced  uint64  bytes of the file that were known to be on disk when the frame was written
//	crc     uint32  CRC32C of length, offset, synced and payload
//
// The file starts with the eight bytes "dovelog1"; the first frame follows.
//
// A machine that stops can leave any mixture of old and new bytes behind what was last synced, not only a
// short last frame. The synced field tells such a torn tail from damage: bytes that do not make a frame were
// lost in a crash unless a later frame says that they were on disk before. A torn tail is cut off, damage is
// an error. An empty frame says nothing but that; see [Log.Seal].
package framelog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
)

const (
	fileMagic   = "dovelog1"
	frameMagic  = 0x67766f64
	headerBytes = 28

	// MaxPayload is the largest payload of a frame in bytes.
	MaxPayload = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged is what every [DamagedError] is.
var ErrDamaged = errors.New("log is damaged")

// DamagedError reports bytes that are not what was once on disk.
type DamagedError struct {
	Path   string
	Offset int64  // where the first bad frame starts
	Frame  int    // its number, from 0
	Reason string // what is wrong with it
}

// Error names the file, the place and the fault.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s: frame %d at byte %d: %s", e.Path, e.Frame, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrDamaged) true.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Log is an open log. It is safe for concurrent use.
type Log struct {
	f vfs.File

	mu     sync.Mutex
	size   int64
	synced int64
	sealed int64 // the size when the last frame was empty
	buf    []byte
	err    error // the first failed write or sync; nothing is written after it
}

// Create writes a new log with one frame to f, which must be empty, and syncs it.
func Create(f vfs.File, first []byte) (*Log, error) {
	if _, err := f.WriteAt([]byte(fileMagic), 0); err != nil {
		return nil, err
	}
	l := &Log{f: f, size: int64(len(fileMagic))}
	if err := l.Append(first); err != nil {
		return nil, err
	}
	return l, l.Sync()
}

// Open reads the log in f and calls visit with the payload of each frame in order but the empty ones, which
// visit must not keep. A frame for which visit returns an error is damaged. A torn tail is cut off and its
// length returned.
func Open(f vfs.File, visit func(payload []byte) error) (l *Log, torn int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	size := st.Size()
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20)
	var magic [len(fileMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return nil, 0, err
	}
	if string(magic[:]) != fileMagic {
		return nil, 0, &DamagedError{Path: f.Name(), Reason: "the file does not start as a log does"}
	}
	at, frames := int64(len(fileMagic)), 0
	var payload []byte
	for at < size {
		var reason string
		payload, reason, err = readFrame(r, at, size, payload)
		if err != nil {
			return nil, 0, err
		}
		if reason != "" {
			bad := &DamagedError{Path: f.Name(), Offset: at, Frame: frames, Reason: reason}
			if torn, err = cut(f, bad, size); err != nil {
				return nil, 0, err
			}
			break
		}
		if len(payload) > 0 || frames == 0 {
			if err := visit(payload); err != nil {
				return nil, 0, &DamagedError{Path: f.Name(), Offset: at, Frame: frames, Reason: err.Error()}
			}
		}
		at += headerBytes + int64(len(payload))
		frames++
	}
	if frames == 0 {
		return nil, 0, &DamagedError{Path: f.Name(), Offset: at, Reason: "the first frame is missing"}
	}
	// What was read may not be on disk yet: a process can be killed between write and sync.
	l = &Log{f: f, size: at}
	return l, torn, l.Sync()
}

// readFrame reads the frame that starts at byte at of a file of size bytes. It returns its payload, in buf if
// it fits, or the reason why there is none.
func readFrame(r io.Reader, at, size int64, buf []byte) (payload []byte, reason string, err error) {
	var h [headerBytes]byte
	if size-at < headerBytes {
		return nil, "the header is cut short", nil
	}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, "", err
	}
	n, reason := checkHeader(&h, at, size)
	if reason != "" {
		return nil, reason, nil
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	payload = buf[:n]
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, "", err
	}
	if checksum(&h, payload) != binary.LittleEndian.Uint32(h[24:]) {
		return nil, "the checksum does not match", nil
	}
	return payload, "", nil
}

// checkHeader returns the length of the payload, which lies within the file, or what is wrong.
func checkHeader(h *[headerBytes]byte, at, size int64) (n int, reason string) {
	if binary.LittleEndian.Uint32(h[:]) != frameMagic {
		return 0, "it does not start as a frame does"
	}
	if binary.LittleEndian.Uint64(h[8:]) != uint64(at) {
		return 0, "it belongs elsewhere"
	}
	length := binary.LittleEndian.Uint32(h[4:])
	if length > MaxPayload || int64(length) > size-at-headerBytes {
		return 0, "it is cut short"
	}
	return int(length), ""
}

func checksum(h *[headerBytes]byte, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[4:24], castagnoli), castagnoli, payload)
}

// cut truncates f where the frame in bad starts, or returns bad if a later frame proves that it was on disk.
func cut(f vfs.File, bad *DamagedError, size int64) (torn int64, err error) {
	if bad.Frame == 0 {
		return 0, bad // the first frame is synced before the file gets its name
	}
	const window = 1 << 20
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	buf := make([]byte, window+len(magic)-1)
	var payload []byte
	for base := bad.Offset + 1; base < size; base += window {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-base)], base)
		if err != nil && err != io.EOF {
			return 0, err
		}
		for i := 0; ; i++ {
			j := bytes.Index(buf[i:n], magic)
			if j < 0 {
				break
			}
			i += j
			at := base + int64(i)
			var reason string
			payload, reason, err = readFrame(io.NewSectionReader(f, at, size-at), at, size, payload)
			if err != nil {
				return 0, err
			}
			if reason != "" {
				continue
			}
			var synced [8]byte
			if _, err := f.ReadAt(synced[:], at+16); err != nil {
				return 0, err
			}
			if binary.LittleEndian.Uint64(synced[:]) > uint64(bad.Offset) {
				return 0, bad
			}
		}
	}
	return size - bad.Offset, f.Truncate(bad.Offset)
}

// Append writes one frame. It is on disk after the next [Log.Sync]; a process that is killed before
// does not lose it, a machine that stops may. payload has at most [MaxPayload] bytes. After an error the log
// takes no more frames.
func (l *Log) Append(payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("frame of %d bytes, at most %d fit", len(payload), MaxPayload)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(payload)
}

func (l *Log) append(payload []byte) error {
	if l.err != nil {
		return l.err
	}
	var h [headerBytes]byte
	binary.LittleEndian.PutUint32(h[0:], frameMagic)
	binary.LittleEndian.PutUint32(h[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(h[8:], uint64(l.size))
	binary.LittleEndian.PutUint64(h[16:], uint64(l.synced))
	binary.LittleEndian.PutUint32(h[24:], checksum(&h, payload))
	l.buf = append(append(l.buf[:0], h[:]...), payload...)
	if _, err := l.f.WriteAt(l.buf, l.size); err != nil {
		l.err = err
		// Whatever part was written is a torn tail to the next reader, so this is only tidiness.
		_ = l.f.Truncate(l.size)
		return err
	}
	l.size += int64(len(l.buf))
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	return nil
}

// Sync puts everything appended before the call on disk. After an error the log takes no more frames: what
// of the file is on disk is unknown then.
func (l *Log) Sync() error {
	l.mu.Lock()
	size, err := l.size, l.err
	done := l.synced >= size
	l.mu.Unlock()
	if err != nil || done {
		return err
	}
	err = l.f.Sync() // without the lock: frames may be appended meanwhile
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.err == nil {
			l.err = err
		}
		return err
	}
	l.synced = max(l.synced, size)
	return nil
}

// Seal syncs the log and adds an empty frame that says so. From then on a change of any byte before it is
// damage, not a torn tail.
func (l *Log) Seal() error {
	if err := l.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed == l.size {
		return nil
	}
	all := l.synced == l.size // no one has appended meanwhile
	if err := l.append(nil); err != nil {
		return err
	}
	if all {
		l.sealed = l.size
	}
	return nil
}

// Size returns the length of the file in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Close closes the file without syncing it.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = os.ErrClosed
	}
	return l.f.Close()
}

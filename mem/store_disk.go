package mem

import (
	"fmt"
	"io"
	"os"
	"time"
)

// bounceBytes is the size of the pieces in which items travel between a device and the disk.
const bounceBytes = 1 << 20

// toDisk writes an item to a file of its own.
func (s *Store) toDisk(it *Item) (err error) {
	start := time.Now()
	f, err := os.CreateTemp(s.dir, "spill-*")
	if err != nil {
		return fmt.Errorf("mem: spilling %d bytes: %w", it.n, err)
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("mem: spilling %d bytes to %s: %w", it.n, f.Name(), err)
		}
	}()
	if err := s.pieces(it.buf, func(b []byte) error { _, err := f.Write(b); return err }, true); err != nil {
		return err
	}
	old := it.buf
	it.file = f.Name()
	s.place(it, TierDisk, nil, start)
	old.Release()
	return nil
}

// fromDisk reads an item into b, which it takes, and removes its file.
func (s *Store) fromDisk(it *Item, b *Buffer) error {
	start := time.Now()
	err := func() error {
		f, err := os.Open(it.file)
		if err != nil {
			return err
		}
		defer f.Close() // it was only read
		if info, err := f.Stat(); err == nil && info.Size() != int64(it.n) {
			return fmt.Errorf("it has %d bytes", info.Size())
		}
		return s.pieces(b, func(p []byte) error { _, err := io.ReadFull(f, p); return err }, false)
	}()
	if err != nil {
		b.Release()
		s.unreserve(b.tier, it.n)
		return fmt.Errorf("mem: reading %d spilled bytes from %s: %w", it.n, it.file, err)
	}
	s.place(it, b.tier, b, start)
	it.removeFile()
	return nil
}

// readFile reads all of b from a place in a spilled item's file.
func readFile(name string, b []byte, at int64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	_, err = f.ReadAt(b, at)
	if err == io.EOF && len(b) == 0 {
		return nil
	}
	return err
}

// pieces calls f with the bytes of b, one piece after another if it is on a device: out has them read from there before, and
// otherwise they are written there after.
func (s *Store) pieces(b *Buffer, f func([]byte) error, out bool) error {
	if b.tier.Addressable() {
		return f(b.Bytes())
	}
	bounce, err := Host().Alloc(min(bounceBytes, b.Len()))
	if err != nil {
		return err
	}
	defer bounce.Release()
	for at := 0; at < b.Len(); at += bounceBytes {
		end := min(b.Len(), at+bounceBytes)
		if err := s.piece(b, bounce, at, end, f, out); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) piece(b, bounce *Buffer, at, end int, f func([]byte) error, out bool) error {
	device, err := b.Slice(at, end)
	if err != nil {
		return err
	}
	defer device.Release()
	host, err := bounce.Slice(0, end-at)
	if err != nil {
		return err
	}
	defer host.Release()
	if out {
		if err := s.copy(host, device); err != nil {
			return err
		}
	}
	if err := f(host.Bytes()); err != nil {
		return err
	}
	if !out {
		return s.copy(device, host)
	}
	return nil
}

func (it *Item) removeFile() {
	if it.file != "" {
		_ = os.Remove(it.file) // the folder goes with the run
		it.file = ""
	}
}

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openBarrier opens a barrier on the file system that dir is on.
func openBarrier(dir string) (Barrier, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &barrier{f, st.Dev}, nil
}

// barrier uses syncfs(2), which since Linux 5.8 reports errors of writing back anything on the file system
// since the descriptor was opened.
type barrier struct {
	f   *os.File
	dev uint64
}

func (b *barrier) Covers(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Dev == b.dev
}

func (b *barrier) Sync() error  { return unix.Syncfs(int(b.f.Fd())) }
func (b *barrier) Close() error { return b.f.Close() }

//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package lockfile

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A child that was forked and has yet to run its program has all files of its parent, locked ones too: a lock that is released is free all the same.
func TestReleaseWithFork(t *testing.T) {
	for name, release := range map[string]func(*Lock) error{"released": (*Lock).Release, "removed": (*Lock).Remove} {
		path := filepath.Join(t.TempDir(), "lock")
		l, err := Acquire(path)
		if err != nil {
			t.Fatal(err)
		}
		child, err := unix.Dup(int(l.f.Fd())) // what fork does
		if err != nil {
			t.Fatal(err)
		}
		if err := release(l); err != nil {
			t.Error(err)
		}
		again, err := Acquire(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := again.Release(); err != nil {
			t.Error(err)
		}
		if err := unix.Close(child); err != nil {
			t.Error(err)
		}
	}
}

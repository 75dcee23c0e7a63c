package crashfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

func put(t *testing.T, s *FS, path, text string, sync bool) {
	t.Helper()
	f, err := s.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

func get(s *FS, path string) string {
	f, err := s.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err.Error()
	}
	buf := make([]byte, 10000)
	n, _ := f.ReadAt(buf, 0)
	return string(buf[:n])
}

// What was synced, name and content, is always there; what was not is there in some worlds and not in others.
func TestCrash(t *testing.T) {
	old, long := "old", string(bytes.Repeat([]byte("x"), 3000))
	seen := make(map[string]map[string]bool)
	for seed := range uint64(300) {
		s := New()
		if err := s.MkdirAll("/d", 0); err != nil {
			t.Fatal(err)
		}
		if err := s.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		put(t, s, "/d/kept", "synced", true)
		put(t, s, "/d/replaced", old, true)
		put(t, s, "/d/unsynced", long, false)
		if err := s.SyncDir("/d"); err != nil {
			t.Fatal(err)
		}
		put(t, s, "/d/nameless", "synced", true)
		put(t, s, "/d/new", "new", true)
		if err := s.Rename("/d/new", "/d/replaced"); err != nil {
			t.Fatal(err)
		}
		after := s.Crash(rand.New(rand.NewPCG(seed, 0)))
		for _, name := range []string{"kept", "replaced", "unsynced", "nameless"} {
			if seen[name] == nil {
				seen[name] = make(map[string]bool)
			}
			seen[name][get(after, "/d/"+name)] = true
		}
	}
	missing := "open /d/nameless: " + syscall.ENOENT.Error()
	if len(seen["kept"]) != 1 || !seen["kept"]["synced"] {
		t.Errorf("kept: %v", seen["kept"])
	}
	if len(seen["replaced"]) != 2 || !seen["replaced"]["old"] || !seen["replaced"]["new"] {
		t.Errorf("replaced: %v", seen["replaced"])
	}
	if len(seen["nameless"]) != 2 || !seen["nameless"]["synced"] || !seen["nameless"][missing] {
		t.Errorf("nameless: %v", seen["nameless"])
	}
	if u := seen["unsynced"]; len(u) < 5 || !u[""] || !u[long] {
		t.Errorf("unsynced: %d contents", len(u))
	}
}

func TestPowerOff(t *testing.T) {
	s := New()
	s.StopAfter(1)
	if err := s.MkdirAll("/", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.MkdirAll("/", 0); !errors.Is(err, ErrPowerOff) {
		t.Fatalf("got %v", err)
	}
}

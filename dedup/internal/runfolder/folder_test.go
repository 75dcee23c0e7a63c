package runfolder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor"
)

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestApart refuses outputs that the next run would read, however the paths are written.
func TestApart(t *testing.T) {
	dir := t.TempDir()
	data := mkdir(t, filepath.Join(dir, "data"))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, c := range []struct {
		output, input string
		fine          bool
	}{
		{"data/out", "data", false},
		{"link/out", "data", false},
		{"data/out", "link", false},
		{filepath.Join(dir, "data", "deep", "out"), "data", false},
		{"data/out", "data/**/*.parquet", false},
		{"data/out", "da*/**/*.parquet", false},
		{"data/out", "data/*.parquet", true},
		{"out", "data", true},
		{"data-out", "data", true},
		{"out", "data/**", true},
	} {
		f, err := New(c.output, "", strings.Repeat("0", 16))
		if err == nil {
			err = f.CheckApart(nil, []string{c.input})
		}
		if c.fine != (err == nil) || err != nil && !errors.Is(err, ErrOutput) {
			t.Errorf("output %s, input %s: %v", c.output, c.input, err)
		}
	}
}

// TestPutInPlace replaces an empty folder, through a link too, and nothing that is not one.
func TestPutInPlace(t *testing.T) {
	dir := t.TempDir()
	place := func(output string) error {
		f, err := New(output, "", strings.Repeat("0", 16))
		if err != nil {
			return err
		}
		staging := mkdir(t, f.Output+".partial")
		if err := os.WriteFile(filepath.Join(staging, "result"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		return f.PutInPlace(staging)
	}
	empty := mkdir(t, filepath.Join(dir, "empty"))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(empty, link); err != nil {
		t.Fatal(err)
	}
	if err := place(link); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(empty, "result")); err != nil {
		t.Errorf("a link to an empty folder: %v", err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := place(file); !errors.Is(err, ErrOutput) {
		t.Errorf("a file: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file is %q, %v", data, err)
	}
}

// One run at a time has an output, and what locks it is gone afterwards, or when the output cannot be locked at all.
func TestLockOutput(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	unlock, err := LockOutput(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockOutput(out); !errors.Is(err, executor.ErrLocked) || !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), out+": ") {
		t.Errorf("a second one: %v", err)
	}
	other, err := LockOutput(out + "2")
	if err != nil {
		t.Error(err)
	}
	other()
	unlock()
	if unlock, err = LockOutput(out); err != nil {
		t.Fatalf("after the first: %v", err)
	}
	unlock()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if unlock, err = LockOutput(filepath.Join(dir, "no", "out")); err != nil {
		t.Errorf("where there is no folder: %v", err)
	}
	unlock()
}

// A run that was killed while it removed its work folder leaves nothing after the next, and what is another's stays.
func TestTidy(t *testing.T) {
	f, err := New(filepath.Join(t.TempDir(), "out"), "", "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Tidy(); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	if err := os.Mkdir(f.Work, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := f.Tidy(); err != nil {
		t.Errorf("empty: %v", err)
	}
	if _, err := os.Stat(f.Work); err == nil {
		t.Error("an empty work folder is left")
	}
	other := filepath.Join(f.Work, "notes")
	if err := os.MkdirAll(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := f.Tidy(); err != nil {
		t.Errorf("another's: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

// What can be written is found to be so with and without a name, and nothing stays.
func TestCheckWritable(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "a", "b")
	if err := errors.Join(CheckWritable(inner), probeNamed(inner)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(inner); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := CheckWritable(filepath.Join(file, "in it")); !errors.Is(err, ErrOutput) {
		t.Errorf("below a file: %v", err)
	}
	if err := probe("/proc"); err == nil {
		t.Error("a file could be made in /proc")
	}
}

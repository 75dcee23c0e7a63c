package dedup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// linesFiles writes three files of each compression: the first and last lose nothing, the second loses its second line. The first has lines that
// are no documents.
func linesFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for i, ext := range []string{"", ".gz", ".zst"} {
		for k, lines := range []string{
			"\xef\xbb\xbf{\"text\":\"first %d\",\"x\":[1]}\r\n\n{\"text\":\"\\u0073econd %d\"}\n \n", "{\"x\":1,\"text\":\"third %d\"}\n{\"text\":\"first %d\"}\n{\"text\":\"fourth %[1]d\"}",
			"{\"text\":\"fifth %d\",\"text\":null}\n{\"text\":\"sixth %d\"}\n",
		} {
			name := fmt.Sprintf("%d%d.jsonl%s", i, k, ext)
			files[name] = compressed(t, name, fmt.Appendf(nil, lines, i, i))
			if err := os.MkdirAll(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// A file of JSON Lines that loses no document is copied byte for byte, compressed as it is; of one that does the lines that
// are kept are. Neither depends on ranks, memory or splits.
func TestUntouchedLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in")
	files := linesFiles(t, dir)
	digest := ""
	for _, e := range []Exec{{}, {Workers: 1, TextMemory: -1, SplitBytes: 30}, {Ranks: 3, SplitBytes: 100}} {
		for _, write := range []string{WriteKept, WriteAnnotate} {
			s := DefaultSpec()
			s.Write = write
			out, res := testRun(t, dir, s, e)
			if res.Steps.Kept != 18 || res.Steps.Removed != 3 || digest != "" && res.Digest != digest {
				t.Fatalf("%d kept, %d removed, digest %s and %s", res.Steps.Kept, res.Steps.Removed, res.Digest, digest)
			}
			digest = res.Digest
			if v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: -1}); err != nil || v.Digest != digest || !v.OK() {
				t.Errorf("%+v, %v", v, err)
			}
			if write == WriteAnnotate {
				continue
			}
			for name, in := range files {
				kept, err := os.ReadFile(filepath.Join(out, "kept", name))
				if err != nil {
					t.Fatal(err)
				}
				if name[1] != '1' {
					if !bytes.Equal(kept, in) {
						t.Errorf("%s is not copied as it is", name)
					}
					continue
				}
				l := bytes.SplitAfter(plain(t, name, in), []byte("\n"))
				if got := plain(t, name, kept); string(got) != string(l[0])+string(l[2]) {
					t.Errorf("%s became %q", name, got)
				}
			}
		}
	}
}

// A byte that is another when the file is copied is noticed, though size and times are as they were: in a file that is copied as it
// is, and in any field of a line. The error names the file.
func TestUntouchedLinesChange(t *testing.T) {
	for _, name := range []string{"00.jsonl", "01.jsonl", "10.jsonl.gz", "11.jsonl.gz", "20.jsonl.zst", "21.jsonl.zst"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// What says so when the file changes at the last moment: the hash of all bytes, or of a line.
			last, said := "it holds other bytes than when it was read", false
			if name[1] == '1' {
				last = "is not what it was when it was first read"
			}
			for n := int64(1); ; n++ {
				dir := filepath.Join(t.TempDir(), "in")
				path := filepath.Join(dir, name)
				data := linesFiles(t, dir)[name]
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				// Another number, in a text or another field, under the same compression.
				other := compressed(t, name, bytes.Replace(plain(t, name, data), []byte("1"), []byte("2"), 1))
				if len(other) != len(data) {
					t.Fatalf("%d bytes of %d", len(other), len(data))
				}
				m := &meddling{FS: corpus.Local(), do: func() {
					if err := errors.Join(os.WriteFile(path, other, 0o666), os.Chtimes(path, time.Time{}, info.ModTime())); err != nil {
						t.Error(err)
					}
				}}
				m.left.Store(n)
				out := filepath.Join(t.TempDir(), "out")
				_, err = Run(t.Context(), Options{Spec: DefaultSpec(), Exec: Exec{Workers: 1}, Inputs: []string{dir}, Output: out, FS: m})
				if m.left.Load() > 0 {
					if !said {
						t.Errorf("nothing said that %s", last)
					}
					return
				}
				if err == nil {
					// Then the file was changed before it was resolved, or after it was written.
					kept, err := os.ReadFile(filepath.Join(out, "kept", name))
					if err != nil {
						t.Fatal(err)
					}
					if name[1] == '0' && !bytes.Equal(kept, data) && !bytes.Equal(kept, other) {
						t.Errorf("opening %d: what was copied is neither file", n)
					}
					continue
				}
				said = said || strings.Contains(err.Error(), last)
				if !strings.Contains(err.Error(), path) || !errors.Is(err, corpus.ErrChanged) && !strings.Contains(err.Error(), "changed during the run") {
					t.Errorf("opening %d: %v", n, err)
				}
			}
		})
	}
}

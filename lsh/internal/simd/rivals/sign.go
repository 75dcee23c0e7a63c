package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// goTree returns the Go files of the Go distribution, one after another.
func goTree(limit int) ([]byte, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	var all []byte
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || len(all) > limit || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, text...)
		return err
	})
	return all, err
}

// script writes text in another script: letter by letter, or a run of letters as ideographs. Its statistics stay.
func script(text []byte, name string) []byte {
	var out []byte
	word := uint32(0)
	for _, r := range string(text) {
		letter := r < unicode.MaxASCII && unicode.IsLetter(r)
		switch {
		case name == "Cyrillic" && letter:
			out = append(out, string('а'+(unicode.ToLower(r)-'a'))...)
		case name == "CJK" && letter:
			word = word*31 + uint32(r)
		default:
			if word != 0 {
				out = append(out, string(rune(0x4e00+word%20000))...)
				if word > 1<<20 {
					out = append(out, string(rune(0x4e00+word>>8%20000))...)
				}
				word = 0
			}
			if name != "CJK" || r != ' ' {
				out = append(out, string(r)...)
			}
		}
	}
	return out
}

// column cuts text into documents of about size bytes.
func column(text []byte, size, total int) *mem.Strings {
	var offsets []byte
	rows, at := 0, 0
	offsets = binary.NativeEndian.AppendUint64(offsets, 0)
	for at < total && at+size <= len(text) {
		at += size
		offsets = binary.NativeEndian.AppendUint64(offsets, uint64(at))
		rows++
	}
	return &mem.Strings{Rows: rows, Offsets: mem.NewHostBuffer(mem.TierHost, offsets, nil), Data: mem.NewHostBuffer(mem.TierHost, text[:at], nil)}
}

// signing signs a column and fails only with the machine.
type signing func(texts *mem.Strings)

func newSigning(sketch lsh.Sketch, path string) (signing, error) {
	p := lsh.DefaultParams()
	p.Sketch = sketch
	k, err := lsh.NewCPUPath(p, path)
	if err != nil {
		return nil, err
	}
	var out *mem.Buffer
	return func(texts *mem.Strings) {
		if n := p.SignatureBytes(texts.Rows); out == nil || out.Len() < n {
			out = mem.NewHostBuffer(mem.TierHost, make([]byte, n), nil)
		}
		if _, err := k.Sign(context.Background(), texts, out); err != nil {
			panic(err)
		}
	}, nil
}

// total is the text of a row of the table: enough documents to differ, few enough to be measured often.
const total = 100 << 10

func signTable(paths []string, sizes []int, scripts []string, repeats int) error {
	text, err := goTree(4 << 20)
	if err != nil {
		return err
	}
	fmt.Printf("%-9s %8s", "text", "bytes")
	for _, s := range lsh.Sketches() {
		for _, p := range paths {
			fmt.Printf(" %16s", fmt.Sprintf("%s/%s", s, p))
		}
	}
	fmt.Println("   MB/s a core; fast / curator32")
	for _, name := range scripts {
		t := script(text, name)
		for _, size := range sizes {
			var fs []signing
			for _, sketch := range lsh.Sketches() {
				for _, path := range paths {
					f, err := newSigning(sketch, path)
					if err != nil {
						return err
					}
					fs = append(fs, f)
				}
			}
			best, bytes := make([]float64, len(fs)), 0
			for at := 0; at < total && at+size <= len(t); {
				texts := column(t[at:], size, max(size, 10<<10))
				at += texts.Data.Len()
				bytes += texts.Data.Len()
				var run []func()
				for _, f := range fs {
					run = append(run, func() { f(texts) })
				}
				for i, ns := range interleaved(repeats, run...) {
					best[i] += ns
				}
			}
			fmt.Printf("%-9s %8d", name, size)
			for _, ns := range best {
				fmt.Printf(" %16.1f", float64(bytes)/ns*1000)
			}
			n := len(paths)
			fmt.Printf("   %.2f\n", best[n]/best[0])
		}
	}
	return nil
}

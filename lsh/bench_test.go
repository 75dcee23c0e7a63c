package lsh

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// goSource returns about limit bytes of the Go distribution's own source, cut into documents of about size
// bytes: text that is real and on every machine that runs the tests.
func goSource(tb testing.TB, limit, size int) [][]byte {
	var docs [][]byte
	all := goTree(tb)
	for total := 0; total < limit && len(all) > size; total += size {
		docs = append(docs, all[:size:size])
		all = all[size:]
	}
	return docs
}

var goTreeOnce = sync.OnceValues(func() ([]byte, error) {
	var all bytes.Buffer
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(path string, d os.DirEntry, err error) error {
		if err != nil || all.Len() > 24<<20 || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	return all.Bytes(), err
})

func goTree(tb testing.TB) []byte {
	tb.Helper()
	all, err := goTreeOnce()
	if err != nil || len(all) == 0 {
		tb.Skipf("no Go source tree to read: %v", err)
	}
	return all
}

func BenchmarkSign(b *testing.B) {
	for _, bench := range []struct {
		name string
		size int
		set  func(p *Params)
	}{
		{"fast/100B", 100, func(*Params) {}},
		{"fast/300B", 300, func(*Params) {}},
		{"fast/1000B", 1000, func(*Params) {}},
		{"fast/2500B", 2500, func(*Params) {}},
		{"fast/100kB", 100_000, func(*Params) {}},
		{"fast-width13/2500B", 2500, func(p *Params) { p.CharNgrams = 13 }},
		{"fast-width5/2500B", 2500, func(p *Params) { p.CharNgrams = 5 }},
		{"curator32/2500B", 2500, func(p *Params) { p.Sketch = Curator32 }},
		{"curator64/2500B", 2500, func(p *Params) { p.Sketch = Curator64 }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p := DefaultParams()
			bench.set(&p)
			c, err := NewCPU(p)
			if err != nil {
				b.Fatal(err)
			}
			docs := goSource(b, 1<<20, bench.size)
			benchSign(b, c, docs)
		})
	}
}

func benchSign(b *testing.B, c *CPU, docs [][]byte) {
	s := c.signers.Get().(signer)
	row := make([]byte, c.params.SignatureBytes(1))
	ctx := context.Background()
	b.ReportAllocs()
	n, bytes := 0, 0
	for b.Loop() {
		doc := docs[n%len(docs)]
		if err := s.sign(ctx, row, doc); err != nil {
			b.Fatal(err)
		}
		n++
		bytes += len(doc)
	}
	b.SetBytes(int64(bytes / n))
}

func BenchmarkWindows(b *testing.B) {
	for _, size := range []int{300, 2500, 20_000, 1_000_000} {
		docs := goSource(b, 2<<20, size)
		b.Run(byteCount(size), func(b *testing.B) {
			w, err := NewWindows(24)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				w.Set(docs[n%len(docs)])
				n++
			}
		})
	}
}

func BenchmarkOverlap(b *testing.B) {
	docs := goSource(b, 1<<20, 2500)
	w, _ := NewWindows(24)
	w.Set(append(docs[0][:1250:1250], docs[1][:1250]...))
	hashes := w.Hashes(nil)
	w.Set(docs[0])
	for b.Loop() {
		w.Overlap(hashes)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(hashes)), "ns/window")
}

func BenchmarkBandKeys(b *testing.B) {
	for _, sketch := range Sketches() {
		b.Run(string(sketch), func(b *testing.B) {
			p := DefaultParams()
			p.Sketch = sketch
			c := mustCPU(b, p, chosen(b))
			const rows = 4096
			signatures, err := mem.AllocZeroed(mem.Host(), p.SignatureBytes(rows))
			if err != nil {
				b.Fatal(err)
			}
			defer signatures.Release()
			keys, err := mem.AllocZeroed(mem.Host(), p.BandKeyBytes(rows))
			if err != nil {
				b.Fatal(err)
			}
			defer keys.Release()
			b.SetBytes(int64(signatures.Len()))
			for b.Loop() {
				if _, err := c.BandKeys(context.Background(), signatures, rows, keys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkContentHash(b *testing.B) {
	docs := goSource(b, 1<<20, 2500)
	b.SetBytes(2500)
	n := 0
	for b.Loop() {
		ContentHash(docs[n%len(docs)])
		n++
	}
}

func BenchmarkNormalize(b *testing.B) {
	docs := goSource(b, 1<<20, 2500)
	for _, what := range []string{"lower", "nfc", "lower,punct,whitespace"} {
		b.Run(what, func(b *testing.B) {
			flags, err := ParseNormalization(what)
			if err != nil {
				b.Fatal(err)
			}
			normalizer := NewNormalizer(flags)
			b.SetBytes(2500)
			n := 0
			for b.Loop() {
				normalizer.Apply(docs[n%len(docs)])
				n++
			}
		})
	}
}

func byteCount(n int) string {
	if n >= 1000 {
		return strconv.Itoa(n/1000) + "kB"
	}
	return strconv.Itoa(n) + "B"
}

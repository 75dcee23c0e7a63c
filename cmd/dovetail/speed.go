package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// signingSpeeds measures every sketch on every path that there is here, in a tenth of a second or so, and returns a line
// for each path. Whatever else the machine does makes the figures smaller.
func signingSpeeds() ([]string, error) {
	texts := madeUpTexts(16, 2500)
	defer texts.Release()
	var lines []string
	for _, path := range lsh.Paths() {
		line := fmt.Sprintf("%-8s", path)
		for _, sketch := range lsh.Sketches() {
			p := lsh.DefaultParams()
			p.Sketch = sketch
			best, err := signingTime(p, path, texts)
			if err != nil {
				return nil, err
			}
			line += fmt.Sprintf(" %s %.0f,", sketch, float64(texts.Data.Len())/1e6/best.Seconds())
		}
		lines = append(lines, strings.TrimSuffix(line, ","))
	}
	return lines, nil
}

// signingTime returns the least time of a few that signing texts took.
func signingTime(p lsh.Params, path string, texts *mem.Strings) (time.Duration, error) {
	kernels, err := lsh.NewCPUPath(p, path)
	if err != nil {
		return 0, err
	}
	defer kernels.Close()
	out, err := mem.Host().Alloc(p.SignatureBytes(texts.Rows))
	if err != nil {
		return 0, err
	}
	defer out.Release()
	best := time.Duration(1<<63 - 1)
	for range 4 { // the first also makes what the others find
		start := time.Now()
		if _, err := kernels.Sign(context.Background(), texts, out); err != nil {
			return 0, err
		}
		best = min(best, time.Since(start))
	}
	return best, nil
}

// madeUpTexts returns rows of made-up words, the same every time.
func madeUpTexts(rows, size int) *mem.Strings {
	r := rand.New(rand.NewPCG(1, 1))
	var text, offsets []byte
	for len(text) < rows*size {
		for range 2 + r.IntN(9) {
			text = append(text, byte('a'+r.IntN(26)))
		}
		text = append(text, ' ')
	}
	for i := range rows + 1 {
		offsets = binary.NativeEndian.AppendUint64(offsets, uint64(i*size))
	}
	return &mem.Strings{
		Rows:    rows,
		Offsets: mem.NewHostBuffer(mem.TierHost, offsets, nil),
		Data:    mem.NewHostBuffer(mem.TierHost, text[:rows*size], nil),
	}
}

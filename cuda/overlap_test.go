//go:build cuda

package cuda_test

import (
	"fmt"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// timeline is what the simulated driver says of a GPU that copies and computes at the same time: how long it copied to the GPU, how
// long kernels ran, and how long both went on.
func timeline() (uploads, kernels, both int64) {
	return cuda.SimulatorStat("upload-ns", 0), cuda.SimulatorStat("kernel-ns", 0), cuda.SimulatorStat("overlap-ns", 0)
}

// signBatches signs batches with depth of them under way.
func signBatches(t *testing.T, g *cuda.GPU, b lsh.Backend, batches, depth int) {
	t.Helper()
	type batch struct {
		text  *mem.Strings
		texts []string
		keys  *mem.Buffer
		fence mem.Fence
	}
	r, err := lsh.NewReference(b.Params())
	must(t, err)
	var under []batch
	finish := func() {
		x := under[0]
		under = under[1:]
		must(t, x.fence.Wait(t.Context()))
		for i, text := range x.texts {
			if i%10 != 0 {
				continue // the reference is slow, and the suite of backends looks at all
			}
			for band, want := range r.BandKeys(r.Sign([]byte(text))) {
				if got := mem.Uint64s(x.keys)[band*x.text.Rows+i]; got != want {
					t.Fatalf("text %d, band %d: %#x, want %#x", i, band, got, want)
				}
			}
		}
		x.keys.Release()
		x.text.Release()
	}
	for n := range batches {
		text, texts := column(t, 30+n, 2000)
		data, err := b.TextAlloc().Alloc(text.Data.Len())
		must(t, err)
		copy(data.Bytes(), text.Data.Bytes())
		x := batch{text: &mem.Strings{Rows: text.Rows, Offsets: text.Offsets.Retain(), Data: data}, texts: texts}
		x.keys, err = mem.Host().Alloc(b.Params().BandKeyBytes(text.Rows))
		must(t, err)
		x.fence, err = b.Start(t.Context(), x.text, nil, x.keys)
		must(t, err)
		if under = append(under, x); len(under) >= depth {
			finish()
		}
	}
	for len(under) > 0 {
		finish()
	}
	if s := g.Stats(); s.Pinned == 0 {
		t.Error("texts in pinned memory were copied once more")
	}
}

// The next batch is copied to the GPU while the kernels of the last one run, whatever is done when; with one batch at a time nothing is.
// Texts that the reader puts into pinned memory are copied from there.
func TestCopiesOverlapKernels(t *testing.T) {
	p := lsh.Params{Sketch: lsh.Fast, NumBands: 4, MinhashesPerBand: 5, CharNgrams: 9, Seed: 1}
	for seed := range 2 {
		for _, depth := range []int{1, 2} {
			t.Run(fmt.Sprint(seed, depth), func(t *testing.T) {
				g := openGPU(t, cudatest.Sim(t, fmt.Sprintf("seed=%d", seed)), cuda.GPUOptions{})
				b, err := g.NewBackend(p)
				must(t, err)
				if b.Depth() != 2 {
					t.Fatal(b.Depth())
				}
				_, before, _ := timeline()
				signBatches(t, g, b, 6, depth)
				uploads, kernels, both := timeline()
				kernels -= before
				t.Logf("uploads %d, kernels %d, both %d microseconds", uploads/1000, kernels/1000, both/1000)
				if kernels < uploads {
					t.Errorf("kernels take %d and copies %d: a bad model", kernels, uploads)
				}
				if depth == 1 && both > uploads/20 || depth == 2 && both < uploads/2 {
					t.Errorf("with %d batches under way %d of %d microseconds of copying went on while kernels ran", depth, both/1000, uploads/1000)
				}
				must(t, b.Close())
			})
		}
	}
}

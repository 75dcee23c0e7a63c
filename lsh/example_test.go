package lsh_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

const (
	brown = "The quick brown fox jumps over the lazy dog while the farmer sleeps under the old oak tree beside the river"
	red   = "The quick brown fox jumps over the lazy dog while the farmer sleeps under the old oak tree beside the stream"
	other = "Pack my box with five dozen liquor jugs, said the sphinx of black quartz to the judge of vows"
)

// column puts texts into buffers of host memory. A program that reads Parquet has such columns already.
func column(texts ...string) (*mem.Strings, error) {
	var data []byte
	offsets := binary.NativeEndian.AppendUint64(nil, 0)
	for _, text := range texts {
		data = append(data, text...)
		offsets = binary.NativeEndian.AppendUint64(offsets, uint64(len(data)))
	}
	c := &mem.Strings{Rows: len(texts)}
	for dst, src := range map[**mem.Buffer][]byte{&c.Offsets: offsets, &c.Data: data} {
		b, err := mem.Host().Alloc(len(src))
		if err != nil {
			c.Release()
			return nil, err
		}
		copy(b.Bytes(), src)
		*dst = b
	}
	return c, nil
}

// Sign a column of documents, make its band keys, and see which documents share one.
func ExampleCPU() {
	ctx := context.Background()
	params := lsh.DefaultParams()
	params.NumBands, params.MinhashesPerBand = 32, 8
	kernels, err := lsh.NewCPU(params)
	if err != nil {
		log.Fatal(err)
	}
	defer kernels.Close()

	texts, err := column(brown, red, other)
	if err != nil {
		log.Fatal(err)
	}
	defer texts.Release()
	signatures, err := mem.Host().Alloc(params.SignatureBytes(texts.Rows))
	if err != nil {
		log.Fatal(err)
	}
	defer signatures.Release()
	keys, err := mem.Host().Alloc(params.BandKeyBytes(texts.Rows))
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Release()

	// On a device both calls may return at once; only the last fence needs waiting for.
	if _, err := kernels.Sign(ctx, texts, signatures); err != nil {
		log.Fatal(err)
	}
	done, err := kernels.BandKeys(ctx, signatures, texts.Rows, keys)
	if err != nil {
		log.Fatal(err)
	}
	if err := done.Wait(ctx); err != nil {
		log.Fatal(err)
	}

	shared := func(i, j int) (n int) {
		for band := range params.NumBands {
			of := mem.Uint64s(keys)[band*texts.Rows:]
			if of[i] == of[j] {
				n++
			}
		}
		return n
	}
	slots := mem.Uint32s(signatures)
	n := params.NumHashes()
	fmt.Printf("brown and red share bands: %v, estimated similarity %.2f\n", shared(0, 1) > 0, lsh.Estimate(slots[:n], slots[n:2*n]))
	fmt.Printf("brown and other share bands: %v, estimated similarity %.2f\n", shared(0, 2) > 0, lsh.Estimate(slots[:n], slots[2*n:]))
	// Output:
	// brown and red share bands: true, estimated similarity 0.88
	// brown and other share bands: false, estimated similarity 0.00
}

// Decide about candidates by their exact similarity.
func ExampleComparer() {
	comparer, err := lsh.NewComparer(24)
	if err != nil {
		log.Fatal(err)
	}
	threshold, err := lsh.ParseThreshold("0.8")
	if err != nil {
		log.Fatal(err)
	}
	var index lsh.Index
	comparer.Index(&index, []byte(brown))
	if overlap := comparer.Overlap(&index, []byte(red)); threshold.Reached(overlap) {
		fmt.Printf("%d of %d windows in common: %.4f\n", overlap.Intersection, overlap.Union, overlap.Jaccard())
	}
	fmt.Println("the other text is as similar:", threshold.Reached(comparer.Overlap(&index, []byte(other))))
	// Output:
	// 79 of 90 windows in common: 0.8778
	// the other text is as similar: false
}

// Choose bands for a threshold instead of taking the defaults.
func ExampleChooseBands() {
	choice, err := lsh.ChooseBands(0.8, 0.95, 260)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bands of %d rows catch %.1f%% of pairs at 0.8; the defaults catch %.1f%%\n",
		choice.Bands, choice.Rows, 100*choice.Recall, 100*lsh.DefaultParams().CandidateProbability(0.8))
	// Output:
	// 21 bands of 9 rows catch 95.2% of pairs at 0.8; the defaults catch 67.7%
}

// Make texts comparable that differ in case, punctuation and space.
func ExampleNormalizer() {
	what, err := lsh.ParseNormalization("lower,punct,whitespace")
	if err != nil {
		log.Fatal(err)
	}
	n := lsh.NewNormalizer(what)
	fmt.Printf("%s\n", n.Apply([]byte("  Hello,\n\tWORLD!  ")))
	// Output:
	// hello world
}

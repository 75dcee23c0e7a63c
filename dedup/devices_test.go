package dedup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// pretender is a device that computes on the processor, signs two batches at a time, and holds texts in a store of its own.
type pretender struct {
	lsh.Backend
	store *mem.Store
	lose  *rand.Rand // now and then it does not hold what it should; nil never
}

func (p *pretender) Depth() int { return 2 }

func (p *pretender) StartHeld(
	ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer, next int64, held func(first, rows int, item *mem.Item, at int),
) (mem.Fence, error) {
	f, err := p.Backend.Start(ctx, texts, signatures, keys)
	if err != nil || texts.Rows == 0 {
		return f, err
	}
	return fenceFunc(func(ctx context.Context) error {
		if err := f.Wait(ctx); err != nil {
			return err
		}
		off := texts.OffsetValues()
		for first := 0; first < texts.Rows; {
			rows := 1 + (texts.Rows-first)/2
			if p.lose == nil || p.lose.IntN(20) > 0 {
				raw := texts.Data.Bytes()[off[first]:off[first+rows]]
				b, err := p.store.Alloc(mem.TierHost, len(raw)+3)
				if err != nil {
					return err
				}
				copy(b.Bytes()[3:], raw)
				it, err := p.store.Put(b, nil, next)
				if err != nil {
					return err
				}
				held(first, rows, it, 3)
			}
			first += rows
		}
		return nil
	}), nil
}

type fenceFunc func(ctx context.Context) error

func (f fenceFunc) Wait(ctx context.Context) error { return f(ctx) }
func (f fenceFunc) Done() bool                     { return false }

// Devices that sign ahead, hold texts and compare pairs ahead change no digest and no number of tests, whatever else is asked for;
// texts that they were to hold and lost are read again.
func TestDevicesChangeNothing(t *testing.T) {
	seed := seedOf(t, 5)
	for i, change := range []func(*Spec, *Exec){
		func(*Spec, *Exec) {},
		func(s *Spec, _ *Exec) { s.Keep = KeepLongest },
		func(s *Spec, _ *Exec) { s.Normalize = "nfc,lower" },
		func(_ *Spec, e *Exec) { e.Ranks, e.Workers = 3, 2 },
		func(_ *Spec, e *Exec) { e.BatchBytes, e.share = 700, 1<<20 },
		func(s *Spec, e *Exec) { s.OnBadFile, s.OnBadRecord = OnBadSkip, OnBadSkip },
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			dir := t.TempDir()
			makeCorpus(rng, 6, 160).write(t, dir)
			s := smallSpec()
			var e Exec
			change(&s, &e)
			_, plain := testRun(t, dir, s, e)
			store, err := mem.NewStore(mem.StoreOptions{Levels: []mem.Level{{Alloc: mem.Host(), Limit: 2 << 10}}, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			e.Devices = []executor.Device{{Kind: "test", UUID: "a"}, {Kind: "test", UUID: "b"}}
			e.TextMemory = 12 << 10
			lossy := rand.New(rand.NewPCG(seed, 77))
			if i%2 == 0 {
				lossy = nil
			}
			e.Backend = func(p lsh.Params, env *executor.Env) (lsh.Backend, error) {
				b, err := lsh.NewCPUBackend(p, env.Alloc)
				if err != nil || env.Device == nil {
					return b, err
				}
				own := lossy
				if own != nil {
					own = rand.New(rand.NewPCG(seed, uint64(env.Actor)))
				}
				return &pretender{b, store, own}, nil
			}
			e.Pairs = func(n int, env *executor.Env) (lsh.PairBackend, error) { return lsh.NewCPUPairs(n) }
			_, res := testRun(t, dir, s, e)
			if res.Digest != plain.Digest || res.Steps.Tests != plain.Steps.Tests {
				t.Errorf("digest %s, want %s; %d tests, want %d", res.Digest, plain.Digest, res.Steps.Tests, plain.Steps.Tests)
			}
			st := store.Stats() // of tiny batches what finds the texts is as large as they are, so that few splits are kept
			if s.Normalize == smallSpec().Normalize && (st.Into(mem.TierDisk) == 0 || lossy == nil && e.BatchBytes == 0 && st.Reads[mem.TierDisk].Items+st.Reads[mem.TierHost].Items == 0) {
				t.Errorf("nothing was held on disk, or read from there: %+v", st)
			}
			used := int64(0)
			for _, x := range res.Stages.Stages {
				used += x.Counters["tests_on_devices"]
			}
			if used == 0 || used > res.Steps.Tests {
				t.Errorf("%d of %d tests were on devices", used, res.Steps.Tests)
			}
			if n := store.Close(); n > 0 {
				t.Errorf("%d items are left", n)
			}
		})
	}
}

// What is compared in vain, on texts of this machine: DOVETAIL_TEST_TEXTS is a folder of files.
func TestDevicesInVain(t *testing.T) {
	dir := os.Getenv("DOVETAIL_TEST_TEXTS")
	if dir == "" {
		t.Skip("DOVETAIL_TEST_TEXTS is not set")
	}
	e := Exec{Devices: []executor.Device{{Kind: "test", UUID: "a"}}, NoReport: true}
	e.Pairs = func(n int, env *executor.Env) (lsh.PairBackend, error) { return lsh.NewCPUPairs(n) }
	s := DefaultSpec()
	s.Format = "files"
	res, err := Run(t.Context(), Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: filepath.Join(t.TempDir(), "out")})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range res.Stages.Stages {
		if x.Name == "decide" {
			t.Logf("digest %s, %d tests, %v", res.Digest, res.Steps.Tests, x.Counters)
		}
	}
}

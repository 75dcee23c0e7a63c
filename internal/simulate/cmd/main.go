// Command cmd plays seeds of the simulator and prints the history of those that fail.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/simulate"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	seeds := flag.Int("seeds", 100, "number of seeds")
	first := flag.Uint64("seed", uint64(time.Now().UnixNano()), "the first of them")
	guest := flag.String("guest", "pipeline", "what the job does: pipeline or dedup")
	history := flag.Bool("history", false, "print the history of every seed")
	most := flag.Int("ranks", 0, "the most ranks a job may have; 0 is no bound")
	workers := flag.Int("workers", 2, "seeds played at a time")
	module := flag.String("module", ".", "folder of the module")
	mutant := flag.Int("mutant", -1, "plant this bug of simulate.Mutants")
	once := flag.Bool("once", false, "stop at the first seed that fails")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root, err := filepath.Abs(*module)
	if err != nil {
		return err
	}
	var overlay map[string][]byte
	if *mutant >= 0 && *mutant < len(simulate.Mutants) {
		if overlay, err = simulate.Mutants[*mutant].Apply(root); err != nil {
			return err
		}
	} else if *mutant != -1 {
		return fmt.Errorf("--mutant is %d, want 0 to %d", *mutant, len(simulate.Mutants)-1)
	}
	wasm, err := simulate.Build(ctx, root, *guest, overlay)
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	w, err := simulate.Load(ctx, wasm, filepath.Join(cache, "dovetail-simulate"))
	if err != nil {
		return err
	}
	defer w.Close(ctx)
	var mu sync.Mutex
	events, failed, lives, ranks := make(map[string]int), 0, 0, 0
	var virtual time.Duration
	start := time.Now()
	next := make(chan uint64)
	var all sync.WaitGroup
	for range *workers {
		all.Go(func() {
			for seed := range next {
				began := time.Now()
				o, err := w.Run(ctx, seed, *guest, *most)
				took := time.Since(began)
				mu.Lock()
				switch {
				case err != nil:
					fmt.Println(err)
					failed++
				default:
					if took > 10*time.Second {
						fmt.Printf("seed %d takes %v, with %d ranks\n", seed, took.Round(time.Second), o.Ranks)
					}
					if o.Fault != "" || *history {
						for _, line := range o.History {
							fmt.Println(line)
						}
					}
					if o.Fault != "" {
						failed++
						if *once {
							stop()
						}
						fmt.Printf("seed %d FAILS: %s\n", seed, o.Fault)
					}
					for k, n := range o.Events {
						events[k] += n
					}
					lives, ranks, virtual = lives+o.Lives, ranks+o.Ranks, virtual+o.Virtual
				}
				mu.Unlock()
			}
		})
	}
	for i := range *seeds {
		if ctx.Err() != nil {
			break
		}
		next <- *first + uint64(i)
	}
	close(next)
	all.Wait()
	fmt.Printf("%d seeds from %d in %v: %d lives of %d ranks in all, %v of their time\n", *seeds, *first,
		time.Since(start).Round(time.Second), lives, ranks, virtual.Round(time.Second))
	for _, k := range slices.Sorted(maps.Keys(events)) {
		fmt.Printf("%8d %s\n", events[k], k)
	}
	if failed > 0 {
		return fmt.Errorf("%d seeds fail; play one again with --seed N --seeds 1 --history", failed)
	}
	return nil
}

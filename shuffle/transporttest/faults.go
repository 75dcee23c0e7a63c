package transporttest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/faulty"
)

// harmless are faults that a shuffle does not notice.
const harmless = "duplicate=10% reorder=25% delay=3%:200us"

func runFaulty(t *testing.T, mk Make) {
	t.Run("harmless", func(t *testing.T) {
		for seed, sizes := range [][]int{{2, 5}, {3, 8}} {
			if testing.Short() {
				sizes = sizes[:1]
			}
			mk := withFaults(mk, harmless, uint64(seed))
			forSizes(t, sizes, func(t *testing.T, size int) {
				testConcurrent(t, newCluster(t, mk, size, 0))
				testReuse(t, newCluster(t, mk, size, 0))
				testAttempts(t, newCluster(t, mk, size, 0))
				testAbort(t, mk, size)
				testTinyBudget(t, mk, size, shuffle.Options{TotalParts: 8}, 2, 0)
			})
		}
	})
	t.Run("harmful", func(t *testing.T) {
		for _, tc := range []struct {
			spec string
			want error  // at least one rank names this
			text string // and this
		}{
			{"corrupt=#9", shuffle.ErrCorrupt, "from rank"},
			{"corrupt@1=#4", shuffle.ErrCorrupt, "to rank 1"},
			{"corrupt=#1", nil, ""}, // a bit of the first hello
			{"drop=#8", shuffle.ErrPeerDown, "link from rank"},
			{"drop@0=#2", shuffle.ErrPeerDown, "at rank 0"},
			{"failpost@1=#3", nil, ""},
			{"kill@1=#6", nil, ""},
			{"kill@0=#1", nil, ""},
			{"kill@2=#30 duplicate=5% reorder=10%", nil, ""},
		} {
			t.Run(tc.spec, func(t *testing.T) {
				forSizes(t, []int{3, 5}, func(t *testing.T, size int) {
					testHarmful(t, newCluster(t, withFaults(mk, tc.spec, 1), size, 0), tc.want, tc.text)
				})
			})
		}
	})
}

// A fault that cannot be mended ends the operation on every rank: nobody waits for ever, nobody gets wrong
// data, and somebody says what happened.
func testHarmful(t *testing.T, c *cluster, want error, text string) {
	const parts = 20
	size := len(c.comms)
	d := &table{rows: 20_000, parts: parts, ranks: size, tasks: 2, chunk: 50}
	errs := make([]error, size)
	c.each(func(r int) {
		// Small messages, so that each rank needs more of them than the numbers of the faults, however well they
		// are put together.
		s, err := c.tryOpen(r, shuffle.Options{TotalParts: parts, Coalesce: 4 << 10})
		if err != nil { // the endpoint may be dead already
			errs[r] = err
			return
		}
		defer s.Close()
		in := s.Begin(uint64(r), 0)
		for part := range parts {
			for range 5 {
				ch, err := d.pack(c, s, part, d.piece(r, part))
				if err == nil {
					err = in.Insert(c.ctx, ch)
				}
				if err != nil {
					errs[r] = err
					return
				}
			}
		}
		if err := in.Commit(c.ctx); err != nil {
			errs[r] = err
			return
		}
		time.Sleep(time.Millisecond)
		if err := s.InsertFinished(c.ctx); err != nil {
			errs[r] = err
			return
		}
		errs[r] = s.Wait(c.ctx)
	})
	named := want == nil
	for r, err := range errs {
		if c.ctx.Err() != nil {
			t.Errorf("rank %d: %v", r, err)
		}
		if err != nil && !errors.Is(err, shuffle.ErrAborted) && !errors.Is(err, faulty.ErrKilled) && !errors.Is(err, faulty.ErrPost) {
			t.Errorf("rank %d: %v", r, err)
		}
		named = named || errors.Is(err, want) && strings.Contains(err.Error(), text)
	}
	if !named {
		t.Errorf("no rank names %q: %v", text, errs)
	}
}

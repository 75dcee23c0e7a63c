//go:build ucx && cgo && amd64

package goodput

import (
	"slices"
	"testing"
	"time"
)

func open(t testing.TB, name string) *Way {
	t.Helper()
	w, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Both sides move what they are told to, and idle ranks take something, but not much.
func TestWays(t *testing.T) {
	for _, name := range Names {
		w := open(t, name)
		for side, f := range map[string]func() (wall, cpu time.Duration, err error){
			"shuffle": func() (time.Duration, time.Duration, error) { return w.Shuffle(t.Context(), 8) },
			"loop":    func() (time.Duration, time.Duration, error) { return w.Loop(8) },
		} {
			if wall, cpu, err := f(); wall <= 0 || cpu < 0 || err != nil {
				t.Errorf("%s, %s: %v, %v, %v", name, side, wall, cpu, err)
			}
		}
		if share, err := w.Idle(t.Context(), 3, 300*time.Millisecond); share < 0 || share > 0.5 || err != nil {
			t.Errorf("%s: idle ranks take %v of a processor; %v", name, share, err)
		}
	}
	if _, err := Open("pigeon"); err == nil {
		t.Error("there is another way")
	}
}

// BenchmarkGoodput moves chunks through a shuffle and through the loop, in turn, so that a busy machine is so for both.
func BenchmarkGoodput(b *testing.B) {
	const chunks = 300
	for _, name := range Names {
		b.Run(name, func(b *testing.B) {
			way := open(b, name)
			var wall, cpu []float64
			var rate [2]float64
			for range b.N {
				var took, used [2]time.Duration
				var err error
				if took[0], used[0], err = way.Shuffle(b.Context(), chunks); err != nil {
					b.Fatal(err)
				}
				if took[1], used[1], err = way.Loop(chunks); err != nil {
					b.Fatal(err)
				}
				for side, d := range took {
					rate[side] = max(rate[side], chunks*ChunkSize/1e6/d.Seconds())
				}
				wall = append(wall, took[1].Seconds()/took[0].Seconds())
				cpu = append(cpu, used[1].Seconds()/used[0].Seconds())
			}
			slices.Sort(wall)
			slices.Sort(cpu)
			b.ReportMetric(rate[0], "MB/s")
			b.ReportMetric(rate[1], "C-MB/s")
			b.ReportMetric(wall[len(wall)/2], "of-C")
			b.ReportMetric(cpu[len(cpu)/2], "of-C-per-cpu-s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkIdle is the share of a processor that each of three ranks takes that have nothing to do.
func BenchmarkIdle(b *testing.B) {
	for _, name := range Names {
		b.Run(name, func(b *testing.B) {
			way := open(b, name)
			var sum float64
			for range b.N {
				share, err := way.Idle(b.Context(), 3, time.Second)
				if err != nil {
					b.Fatal(err)
				}
				sum += share
			}
			b.ReportMetric(100*sum/float64(b.N), "%cpu")
			b.ReportMetric(0, "ns/op")
		})
	}
}

//go:build ucx && cgo && amd64

package ucx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/ucx/internal/cloop"
)

// chunkSize is the largest number below 1 MiB that can be cut into three runs of words.
const chunkSize = 1<<20 - 1<<20%24

// BenchmarkGoodput moves chunks of 1 MiB from one rank to another, through a whole shuffle, and then through a loop in C over UCX that computes
// the same checksums and keeps the chunks, too; in turn, so that a busy machine is so for both.
func BenchmarkGoodput(b *testing.B) {
	const chunks = 300
	for _, way := range []string{"shm", "tcp"} {
		b.Run(way, func(b *testing.B) {
			var wall, cpu []float64
			var rate [2]float64
			for range b.N {
				var took, used [2]float64
				for side, f := range []func() (time.Duration, error){
					func() (time.Duration, error) { return shuffleChunks(b, way, chunks) },
					func() (time.Duration, error) {
						return cloop.Run(contexts[way].Library(), ways[way]["TLS"], ways[way]["NET_DEVICES"], chunks, chunkSize, true)
					},
				} {
					before := processorTime()
					d, err := f()
					if err != nil {
						b.Fatal(err)
					}
					took[side], used[side] = d.Seconds(), (processorTime() - before).Seconds()
					rate[side] = max(rate[side], chunks*chunkSize/1e6/d.Seconds())
				}
				wall, cpu = append(wall, took[1]/took[0]), append(cpu, used[1]/used[0])
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

func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail for this process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// shuffleChunks moves chunks from rank 0 to rank 1, which extracts them. It returns how long that took, without the meeting.
func shuffleChunks(b *testing.B, way string, chunks int) (time.Duration, error) {
	ts := connectRanks(b, way, 2, nil)
	var comms [2]*shuffle.Communicator
	for r, t := range ts {
		var err error
		if comms[r], err = shuffle.NewCommunicator(t); err != nil {
			return 0, err
		}
	}
	buf, err := mem.AllocZeroed(mem.Host(), chunkSize)
	if err != nil {
		return 0, err
	}
	defer buf.Release()
	ctx := context.Background()
	var failed [2]error
	var wg sync.WaitGroup
	var took time.Duration
	start := time.Now()
	for r, c := range comms {
		wg.Go(func() {
			s, err := shuffle.New(shuffle.Options{Comm: c, TotalParts: 2})
			if err != nil {
				failed[r] = err
				return
			}
			defer s.Close()
			if r == 0 {
				for range chunks {
					// The data is only read, so that all chunks can share it.
					if err = s.Insert(ctx, shuffle.Chunk{Partition: 1, Rows: 1, Data: buf.Retain()}); err != nil {
						break
					}
				}
			}
			err = errors.Join(err, s.InsertFinished(ctx), s.Wait(ctx))
			if err == nil {
				var got []shuffle.Chunk
				got, err = s.Extract(ctx, r)
				if len(got) != chunks*r {
					err = errors.Join(err, fmt.Errorf("rank %d has %d chunks", r, len(got)))
				}
				if r == 1 {
					took = time.Since(start)
				}
				shuffle.ReleaseAll(got)
			}
			failed[r] = err
		})
	}
	wg.Wait()
	for _, c := range comms {
		wg.Go(func() { _ = c.Close() })
	}
	wg.Wait()
	return took, errors.Join(failed[:]...)
}

//go:build ucx && cgo && amd64

package goodput

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/ucx"
	"github.com/dovetail-dedup/dovetail/ucx/internal/cloop"
)

// sets is how UCX is told of the ways in Names.
var sets = map[string]map[string]string{
	"shm": {"TLS": "sysv,cma"},
	"tcp": {"TLS": "tcp", "NET_DEVICES": "lo"},
}

// Way is UCX with one way to move bytes, in a program that has no limit on its memory, as jobs are without --memory-limit: what was freed is
// kept. Both sides take their memory from there. A Way belongs to one goroutine.
type Way struct {
	set   map[string]string
	c     *ucx.Context
	scant func() // ends that there is no limit
	loops byte   // how often Loop was called
}

// Open opens a way by its name, one of [Names]. The error wraps [ucx.ErrNoLibrary] if there is no UCX.
func Open(name string) (*Way, error) {
	set, ok := sets[name]
	if !ok {
		return nil, fmt.Errorf("goodput: no way %q, only %v", name, Names)
	}
	c, err := ucx.Open(ucx.Config{Set: set})
	if err != nil {
		return nil, err
	}
	return &Way{set: set, c: c, scant: mem.Plentiful()}, nil
}

// Close ends it.
func (w *Way) Close() error {
	w.scant()
	return w.c.Close()
}

// Version returns that of UCX.
func (w *Way) Version() string { return w.c.Version() }

// Shuffle moves chunks from one rank to another through a whole shuffle. It returns how long that took, and the processor time of both ranks; both
// without the meeting of the ranks and their parting.
func (w *Way) Shuffle(ctx context.Context, chunks int) (wall, cpu time.Duration, err error) {
	ts, err := w.ranks(ctx, 2)
	if err != nil {
		return 0, 0, err
	}
	defer parted(ts)
	var comms [2]*shuffle.Communicator
	for r, t := range ts {
		if comms[r], err = shuffle.NewCommunicator(t); err != nil {
			return 0, 0, err
		}
	}
	before := processorTime()
	wall, err = Move(ctx, comms, chunks, ChunkSize)
	return wall, processorTime() - before, err
}

// Loop does the same in C: as many chunks with a checksum at both ends, all kept.
func (w *Way) Loop(chunks int) (wall, cpu time.Duration, err error) {
	bufs := make([]*mem.Buffer, 0, chunks+1)
	defer func() {
		for _, b := range bufs {
			b.Release()
		}
	}()
	chunk, err := mem.Host().Alloc(ChunkSize)
	if err != nil {
		return 0, 0, err
	}
	bufs = append(bufs, chunk)
	// Other bytes than last time, whose chunks are still in the memory that is received into: or a checksum would be right of what never came.
	w.loops++
	for i := range chunk.Bytes() {
		chunk.Bytes()[i] = byte(i*31+i>>11) + w.loops
	}
	into := make([][]byte, chunks)
	before := processorTime()
	for i := range into {
		b, err := mem.Host().Alloc(ChunkSize)
		if err != nil {
			return 0, 0, err
		}
		bufs = append(bufs, b)
		into[i] = b.Bytes()
	}
	wall, err = cloop.Run(w.c.Library(), w.set["TLS"], w.set["NET_DEVICES"], chunk.Bytes(), into)
	return wall, processorTime() - before, err
}

// Idle connects ranks of this process, has them do nothing for a while, and returns which share of a processor each takes.
func (w *Way) Idle(ctx context.Context, ranks int, while time.Duration) (float64, error) {
	ts, err := w.ranks(ctx, ranks)
	if err != nil {
		return 0, err
	}
	defer parted(ts)
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	pause(while / 10) // what follows from the meeting is no idling
	before, start := processorTime(), time.Now()
	pause(while)
	used := (processorTime() - before).Seconds() / time.Since(start).Seconds() / float64(ranks)
	return used, ctx.Err()
}

// ranks connects some ranks of this process.
func (w *Way) ranks(ctx context.Context, size int) ([]*ucx.Transport, error) {
	ports, addrs := make([]*ucx.Port, size), make([]string, size)
	for r := range ports {
		p, err := w.c.Listen()
		if err != nil {
			for _, q := range ports[:r] {
				_ = q.Close()
			}
			return nil, err
		}
		ports[r], addrs[r] = p, p.Addr()
	}
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	ts, failed := make([]*ucx.Transport, size), make([]error, size)
	var wg sync.WaitGroup
	for r, p := range ports {
		wg.Go(func() { ts[r], failed[r] = p.Connect(ctx, ucx.Options{Job: "goodput", Rank: r, Addrs: addrs}) })
	}
	wg.Wait()
	err := errors.Join(failed...)
	if err == nil {
		return ts, nil
	}
	for r := range ts {
		if failed[r] != nil {
			ts[r] = nil
		}
	}
	parted(ts)
	return nil, err
}

// parted closes ranks at once, for one would wait for another.
func parted(ts []*ucx.Transport) {
	var wg sync.WaitGroup
	for _, t := range ts {
		if t != nil {
			wg.Go(func() { _ = t.Close() })
		}
	}
	wg.Wait()
}

func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail for this process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package executor

import (
	"context"
	"encoding/binary"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// spent says what one attempt took and did. The times are of all goroutines of the attempt together.
type spent struct {
	wait, read, compute, write time.Duration
	units, rows                int64
	device                     string // its UUID, if the actor owned one
}

// sum is the time that the attempt took as a whole.
func (s *spent) sum() time.Duration { return s.wait + s.read + s.compute + s.write }

// Reading counts the time since start as reading rather than computing. It is for what is read elsewhere than through
// [ReaderAt] and [Chunks].
func (m Meter) Reading(start time.Time) {
	d := time.Since(start)
	m.m.life.sign()
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if !m.m.ended {
		m.m.spent.read += d
	}
}

type meterKey struct{}

// within returns a context in which [MeterOf] finds m.
func (m *meter) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// MeterOf returns the meter of the attempt whose call was given ctx, or a context made from it; of a batch that of its first
// task. It is for code that reads files and knows nothing of stages. ok is false outside of attempts.
func MeterOf(ctx context.Context) (m Meter, ok bool) {
	v, ok := ctx.Value(meterKey{}).(*meter)
	return Meter{v}, ok
}

// ReaderAt returns a reader of r that counts the time of reads as reading by the attempt that ctx belongs to. Outside of
// attempts it is r.
func ReaderAt(ctx context.Context, r io.ReaderAt) io.ReaderAt {
	if m, ok := MeterOf(ctx); ok {
		return meteredReader{r, m}
	}
	return r
}

// Chunks yields the chunks of a partition, as [shuffle.Partition.Chunks] does, and counts the time that they take to come as
// reading by the attempt that ctx belongs to.
func Chunks(ctx context.Context, part *shuffle.Partition) iter.Seq2[shuffle.Chunk, error] {
	m, ok := MeterOf(ctx)
	if !ok {
		return part.Chunks(ctx)
	}
	return func(yield func(shuffle.Chunk, error) bool) {
		start := time.Now()
		for c, err := range part.Chunks(ctx) {
			m.Reading(start)
			if !yield(c, err) {
				return
			}
			start = time.Now()
		}
		m.Reading(start)
	}
}

type meteredReader struct {
	r io.ReaderAt
	m Meter
}

func (r meteredReader) ReadAt(b []byte, off int64) (int, error) {
	defer r.m.Reading(time.Now())
	return r.r.ReadAt(b, off)
}

// meteredWriter counts the time of writes as writing by an attempt, also after it has ended: then files are flushed.
type meteredWriter struct {
	w io.Writer
	m *meter
}

func (w meteredWriter) Write(b []byte) (int, error) {
	defer w.m.wrote(time.Now())
	return w.w.Write(b)
}

// wrote counts the time since start as writing.
func (m *meter) wrote(start time.Time) {
	d := time.Since(start)
	m.life.sign()
	m.mu.Lock()
	m.spent.write += d
	m.mu.Unlock()
}

// divide says how long attempts took that were made in one call of total length: what is not waiting, reading or writing is
// computing, and shared out evenly. Goroutines of an actor that waited side by side may leave nothing for it.
func divide(total time.Duration, outs []*Attempt) (sum spent) {
	for _, out := range outs {
		s := &out.m.spent
		sum.wait, sum.read, sum.write = sum.wait+s.wait, sum.read+s.read, sum.write+s.write
	}
	sum.compute = max(0, total-sum.wait-sum.read-sum.write)
	for _, out := range outs {
		out.m.spent.compute = sum.compute / time.Duration(len(outs))
		if d := out.m.env.Device; d != nil {
			out.m.spent.device = d.UUID
		}
	}
	return sum
}

// append and spentFromWire are how an attempt on another rank says what it took.
func (s *spent) append(b []byte) []byte {
	for _, n := range []int64{int64(s.wait), int64(s.read), int64(s.compute), int64(s.write), s.units, s.rows} {
		b = binary.AppendVarint(b, n)
	}
	return appendString(b, s.device)
}

// spentFromWire returns zeros for what makes no sense.
func spentFromWire(b []byte) (s spent) {
	d := decoder{b: b}
	for _, t := range []*time.Duration{&s.wait, &s.read, &s.compute, &s.write} {
		*t = max(0, time.Duration(d.varint()))
	}
	s.units, s.rows = d.varint(), d.varint()
	s.device = d.string()
	if d.err != nil {
		return spent{}
	}
	return s
}

// actorTimes are what the actors of a rank have spent in a stage, as in [StageStats], in nanoseconds: setting up, waiting,
// reading, computing and writing.
type actorTimes [5]int64

func (r *stageRun) actorTimes() actorTimes {
	return actorTimes{r.setupNS.Load(), r.waitNS.Load(), r.readNS.Load(), r.computeNS.Load(), r.writeNS.Load()}
}

// since encodes what t has more than before.
func (t actorTimes) since(before actorTimes) (b []byte) {
	for i := range t {
		b = binary.AppendVarint(b, t[i]-before[i])
	}
	return b
}

// addActorTimes adds those that another rank tells of.
func (r *stageRun) addActorTimes(b []byte) {
	d := decoder{b: b}
	for _, sum := range []*atomic.Int64{&r.setupNS, &r.waitNS, &r.readNS, &r.computeNS, &r.writeNS} {
		sum.Add(max(0, d.varint()))
	}
}

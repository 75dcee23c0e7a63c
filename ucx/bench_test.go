//go:build ucx && cgo

package ucx

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// BenchmarkMeeting is what a round of a job costs before and after its data.
func BenchmarkMeeting(b *testing.B) {
	for _, way := range []string{"shm", "tcp"} {
		b.Run(way, func(b *testing.B) {
			var closing time.Duration
			for range b.N {
				ts := connectRanks(b, way, 2, nil)
				start := time.Now()
				var wg sync.WaitGroup
				for _, tr := range ts {
					wg.Go(func() { _ = tr.Close() })
				}
				wg.Wait()
				closing += time.Since(start)
			}
			b.ReportMetric(float64(closing.Microseconds())/float64(b.N), "close-us/op")
		})
	}
}

// BenchmarkTransport sends messages from rank 0 to rank 1. Compare it with that of shuffle/tcp.
func BenchmarkTransport(b *testing.B) {
	for _, way := range []string{"shm", "tcp"} {
		for _, size := range []int{0, 4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/payload=%d", way, size), func(b *testing.B) { benchmarkTransport(b, way, size) })
		}
	}
}

// benchHeader is the size of a shuffle message's header with one chunk.
const benchHeader = 160

func benchmarkTransport(b *testing.B, way string, size int) {
	ts := connectRanks(b, way, 2, nil)
	alloc := func() *mem.Buffer {
		buf, err := mem.AllocZeroed(mem.Host(), size)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(buf.Release)
		return buf
	}
	src, dst := alloc(), alloc()
	b.SetBytes(int64(size + benchHeader))
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error, 1)
	go func() { done <- benchReceive(ts[1], dst, b.N) }()
	if err := benchSend(ts[0], src, b.N); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func benchSend(t *Transport, src *mem.Buffer, n int) error {
	header := make([]byte, benchHeader)
	var ops []shuffle.Op
	var payload []*mem.Buffer
	if src.Len() > 0 {
		payload = []*mem.Buffer{src}
	}
	events := make([]shuffle.Event, shuffle.MaxInFlight)
	for posted, sent := 0, 0; sent < n; {
		ops = ops[:0]
		for posted < n && posted-sent < shuffle.MaxInFlight {
			if payload != nil {
				src.Retain()
			}
			ops = append(ops, shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Header: header, Payload: payload})
			posted++
		}
		if err := t.Post(ops); err != nil {
			return err
		}
		k, err := t.Poll(events)
		if err != nil {
			return err
		}
		for i := range k {
			if events[i].Kind != shuffle.EventSent {
				return fmt.Errorf("event %+v", events[i])
			}
			sent++
		}
		if k == 0 {
			<-t.Ready()
		}
	}
	return nil
}

func benchReceive(t *Transport, dst *mem.Buffer, n int) error {
	events := make([]shuffle.Event, shuffle.MaxInFlight)
	payload := []*mem.Buffer{dst}
	var ops []shuffle.Op
	for got := 0; got < n; {
		k, err := t.Poll(events)
		if err != nil {
			return err
		}
		ops = ops[:0]
		for i := range k {
			switch ev := &events[i]; ev.Kind {
			case shuffle.EventMessage:
				got++
				for _, p := range ev.Payload {
					p.Release()
				}
			case shuffle.EventOffer:
				dst.Retain() // all payloads go to one place: nobody reads them
				ops = append(ops, shuffle.Op{Kind: shuffle.OpAccept, Cookie: ev.Cookie, Payload: payload})
			default:
				return fmt.Errorf("event %+v", *ev)
			}
		}
		if err := t.Post(ops); err != nil {
			return err
		}
		if len(ops) == 0 && k == 0 && got < n {
			<-t.Ready()
		}
	}
	_, err := t.Poll(events) // so that the last confirmations leave
	return err
}

package tcp

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// BenchmarkTransport sends messages from rank 0 to rank 1 over the loopback interface. Compare it with
// BenchmarkLimit, which does the same with nothing but a connection.
func BenchmarkTransport(b *testing.B) {
	for _, secure := range []bool{false, true} {
		for _, size := range []int{0, 4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("tls=%t/payload=%d", secure, size), func(b *testing.B) { benchmarkTransport(b, secure, size) })
		}
	}
}

// benchHeader is the size of a shuffle message's header with one chunk.
const benchHeader = 160

func benchmarkTransport(b *testing.B, secure bool, size int) {
	ts := connectRanks(b, 2, func(o *Options) { o.ForceTLS, o.Secret = secure, testSecret })
	src, dst := benchBuffer(b, size), benchBuffer(b, size)
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

func benchBuffer(b *testing.B, size int) *mem.Buffer {
	buf, err := mem.Host().Alloc(size)
	if err != nil {
		b.Fatal(err)
	}
	clear(buf.Bytes())
	b.Cleanup(buf.Release)
	return buf
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
		if len(ops) > 0 {
			if err := t.Post(ops); err != nil {
				return err
			}
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
		if len(ops) > 0 {
			if err := t.Post(ops); err != nil {
				return err
			}
		} else if k == 0 && got < n {
			<-t.Ready()
		}
	}
	_, err := t.Poll(events) // so that the last confirmations leave
	return err
}

// BenchmarkLimit writes and reads the same number of bytes with a plain connection, and with one encrypted by
// crypto/tls: what BenchmarkTransport cannot exceed.
func BenchmarkLimit(b *testing.B) {
	for _, secure := range []bool{false, true} {
		for _, size := range []int{benchHeader, 4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("tls=%t/bytes=%d", secure, size), func(b *testing.B) { benchmarkLimit(b, secure, size) })
		}
	}
}

func benchmarkLimit(b *testing.B, encrypted bool, size int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	if encrypted {
		config, err := identity(testSecret)
		if err != nil {
			b.Fatal(err)
		}
		served := make(chan error, 1)
		var server *secureConn
		go func() {
			s, err := secure(b.Context(), in.(*net.TCPConn), nil, config, true)
			server = s
			served <- err
		}()
		if out, err = secure(b.Context(), out.(*net.TCPConn), nil, config, false); err != nil {
			b.Fatal(err)
		}
		if err := <-served; err != nil {
			b.Fatal(err)
		}
		in = server
	}
	src, dst := make([]byte, size), make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error, 1)
	go func() {
		for range b.N {
			if _, err := io.ReadFull(in, dst); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range b.N {
		if _, err := out.Write(src); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
	"github.com/dovetail-dedup/dovetail/ucx/goodput"
)

// chunkBytes is the size of what is sent at a time.
const chunkBytes = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tcpWorkload is a shuffle between two ranks over loopback, beside a bare connection whose ends compute the same checksum and
// whose receiver keeps what comes, as a shuffle must until its partitions are complete: in memory that is new to the process,
// which takes the system as long to hand out as the bytes take to come.
func tcpWorkload(_ context.Context, e *Env) (*Workload, error) {
	chunks := 1000
	if e.Quick {
		chunks = 8
	}
	bytes := int64(chunks) * chunkBytes
	side := func(f func(context.Context, int) error) func(context.Context) (Sample, error) {
		return func(ctx context.Context) (Sample, error) {
			var wall time.Duration
			cpu, err := processorTime(func() error {
				start := time.Now()
				defer func() { wall = time.Since(start) }()
				return f(ctx, chunks)
			})
			s := rate(bytes, wall)
			s[PerCPU] = perCPU(bytes, cpu)[PerCPU]
			return s, err
		}
	}
	return &Workload{
		Name: "tcp", Data: fmt.Sprintf("%d chunks of 1 MiB from one rank to another, loopback, one process", chunks),
		Sides: []Side{
			{Name: "shuffle", About: "insert on one rank, extract on the other", Run: side(shuffleOver)},
			{Name: "bare", About: "one connection, CRC32C at both ends, what comes is kept", Run: side(bareConnection)},
		},
		Ratios: []Ratio{
			{What: "shuffle goodput over TCP, 1 MiB chunks, of a bare connection with CRC32C", Of: "shuffle", By: "bare", Unit: Rate,
				Target: Target{AtLeast: 0.9}, Note: "the target is that of UCX"},
			{What: "the same, for each second of processor time", Of: "shuffle", By: "bare", Unit: PerCPU},
		},
	}, nil
}

// connect makes two connected ranks of this process.
func connect(ctx context.Context) (comms [2]*shuffle.Communicator, err error) {
	var listeners [2]*tcp.Listener
	var addrs []string
	for r := range listeners {
		if listeners[r], err = tcp.Listen("127.0.0.1:0"); err != nil {
			return comms, err
		}
		addrs = append(addrs, listeners[r].Addr())
	}
	var wg sync.WaitGroup
	var failed [2]error
	for r := range comms {
		wg.Go(func() {
			t, err := tcp.Connect(ctx, tcp.Options{Job: "bench", Rank: r, Addrs: addrs, Listener: listeners[r]})
			if err == nil {
				comms[r], err = shuffle.NewCommunicator(t)
			}
			failed[r] = err
		})
	}
	wg.Wait()
	return comms, errors.Join(failed[:]...)
}

// shuffleOver moves chunks from rank 0 to rank 1, which extracts them.
func shuffleOver(ctx context.Context, chunks int) error {
	comms, err := connect(ctx)
	if err != nil {
		return err
	}
	defer comms[0].Close()
	defer comms[1].Close()
	_, err = goodput.Move(ctx, comms, chunks, chunkBytes)
	return err
}

// bareConnection sends as many bytes over one connection, with a checksum of each chunk before and after.
func bareConnection(ctx context.Context, chunks int) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	received := make(chan error, 1)
	go func() { received <- receive(l, chunks) }()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, chunkBytes+4) // the checksum stands behind the chunk
	for range chunks {
		binary.LittleEndian.PutUint32(buf[chunkBytes:], crc32.Checksum(buf[:chunkBytes], castagnoli))
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	return <-received
}

func receive(l net.Listener, chunks int) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	kept := make([]*mem.Buffer, 0, chunks)
	defer func() {
		for _, b := range kept {
			b.Release()
		}
	}()
	for range chunks {
		b, err := mem.Host().Alloc(chunkBytes + 4)
		if err != nil {
			return err
		}
		kept = append(kept, b)
		buf := b.Bytes()
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(buf[chunkBytes:]) != crc32.Checksum(buf[:chunkBytes], castagnoli) {
			return errors.New("a chunk's checksum is wrong")
		}
	}
	return nil
}

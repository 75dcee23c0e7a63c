package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrSilent is wrapped when the other end was not heard of for too long.
var ErrSilent = errors.New("silent")

// Conn carries messages. [Conn.Send] may be called from any goroutine, [Conn.Receive] from one at a time.
type Conn struct {
	c net.Conn

	// Of a greeting, and zero after it:
	until time.Time // when it must be over
	most  int       // bytes that a message may have

	mu      sync.Mutex
	silence time.Duration
	more    sync.Cond
	queue   [][]byte  // frames to be written
	closing bool      // nothing more is queued
	err     error     // of writing
	last    time.Time // of reading, after an error of writing
	beat    *time.Timer

	hears, speaks *patience // of reading and of writing

	written sync.WaitGroup
}

// lastWords is for how long the other end of a connection is listened to that cannot be written to any more, or waited for that was
// told that nothing more comes.
const lastWords = time.Second

// past is a deadline that is over.
var past = time.Unix(1, 0)

// greetingMost is how many bytes a message of somebody may have who has not said who they are. The largest is what must be the same on
// all ranks, the options of a command among it.
const greetingMost = 256 << 10

// Greet is [NewConn] for a connection to somebody who has not said who they are. Until [Conn.Trust] is called, all that is received
// has to come within limit, however slowly, and in messages of 256 KiB at most.
func Greet(c net.Conn, limit time.Duration) *Conn {
	return start(&Conn{c: c, silence: limit, until: time.Now().Add(limit), most: greetingMost})
}

// Trust ends the greeting: from now on the other end may be silent for as long, and its messages as large, as with [NewConn]. It is
// called by whoever calls Receive.
func (k *Conn) Trust(silence time.Duration) {
	k.until, k.most = time.Time{}, MaxMessage
	k.mu.Lock()
	defer k.mu.Unlock()
	k.silence = silence
	k.beat.Reset(silence / 4)
}

// NewConn starts to tell the other end of c that this one is alive, every quarter of silence, and takes over c. An end that is not
// heard of for silence is gone; time in which this process did not run does not count.
func NewConn(c net.Conn, silence time.Duration) *Conn {
	return start(&Conn{c: c, silence: silence, most: MaxMessage})
}

func start(k *Conn) *Conn {
	k.more.L = &k.mu
	k.hears = newPatience(func() { _ = k.c.SetReadDeadline(past) })
	k.speaks = newPatience(func() { _ = k.c.SetWriteDeadline(past) })
	k.beat = time.AfterFunc(k.silence/4, k.heartbeat)
	k.written.Add(1)
	go k.write()
	return k
}

// Silence is how long the other end may be silent.
func (k *Conn) Silence() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.silence
}

// Send queues a message and does not block. It returns an error if the connection is closed or broken; that it returns none
// does not mean that the message arrives.
func (k *Conn) Send(m *Message) error {
	b := m.Append(make([]byte, 8, 256))
	if len(b)-8 > MaxMessage {
		return fmt.Errorf("control: a message of %d bytes, at most %d are possible", len(b)-8, MaxMessage)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-8))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	if k.closing {
		return net.ErrClosed
	}
	k.queue = append(k.queue, b)
	k.more.Signal()
	return nil
}

// write writes what is queued, and a heartbeat when there was nothing for a while.
func (k *Conn) write() {
	defer k.written.Done()
	defer k.beat.Stop()
	for {
		k.mu.Lock()
		for len(k.queue) == 0 && !k.closing && k.err == nil {
			k.more.Wait()
		}
		list := net.Buffers(k.queue)
		k.queue = nil
		stop, silence := k.err != nil || len(list) == 0, k.silence
		k.mu.Unlock()
		if stop {
			return
		}
		k.beat.Reset(silence / 4)
		// The other end reads all the time, whatever it does besides. If it does not for so long, it is gone.
		_ = k.c.SetWriteDeadline(time.Time{})
		k.speaks.begin(silence)
		_, err := list.WriteTo(k.c)
		k.speaks.end()
		if err != nil {
			k.mu.Lock()
			k.err = explain(err, silence)
			// Receive must hear of it. But the other end may have closed the connection with something unread, of which this end hears by
			// writing, and its last words may have come and not been read here.
			k.last = time.Now().Add(lastWords)
			_ = k.c.SetReadDeadline(k.last)
			k.mu.Unlock()
			if errors.Is(k.err, ErrSilent) {
				_ = k.c.Close()
			}
			return
		}
	}
}

// heartbeat queues a heartbeat.
func (k *Conn) heartbeat() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closing && k.err == nil && len(k.queue) == 0 {
		k.queue = append(k.queue, make([]byte, 8))
		k.more.Signal()
	}
}

// Receive waits for the next message. It returns io.EOF when the other end has closed the connection between two messages,
// and an error that wraps [ErrSilent] when nothing was heard of it for too long.
func (k *Conn) Receive() (*Message, error) {
	for {
		var head [8]byte
		if err := k.read(head[:]); err != nil {
			return nil, err
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n == 0 {
			continue
		}
		if int64(n) > int64(k.most) {
			return nil, fmt.Errorf("%w: a frame of %d bytes", ErrMessage, n)
		}
		// The length is not to be believed before as many bytes are there.
		var b []byte
		for uint32(len(b)) < n {
			at, more := len(b), min(int(n)-len(b), 1<<20)
			b = append(b, make([]byte, more)...)
			if err := k.read(b[at:]); err != nil {
				return nil, err
			}
		}
		if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return nil, fmt.Errorf("%w: the checksum of a frame of %d bytes is wrong", ErrMessage, n)
		}
		return Decode(b)
	}
}

// read fills b. Every byte that comes is a sign of life.
func (k *Conn) read(b []byte) error {
	for n := 0; n < len(b); {
		until := k.until
		k.mu.Lock()
		silence := k.silence
		if until.IsZero() || !k.last.IsZero() && k.last.Before(until) {
			until = k.last
		}
		_ = k.c.SetReadDeadline(until)
		k.mu.Unlock()
		if k.until.IsZero() {
			k.hears.begin(silence)
		}
		m, err := k.c.Read(b[n:])
		k.hears.end()
		n += m
		if err == nil || n == len(b) {
			continue
		}
		k.mu.Lock()
		failed := k.err // which is why there is nothing more to be read
		k.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case errors.Is(err, io.EOF) && n > 0:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return io.EOF
		}
		if !k.until.IsZero() && errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("it has not said who it is within %v", silence)
		}
		return explain(err, silence)
	}
	return nil
}

func explain(err error, silence time.Duration) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w for %v", ErrSilent, silence)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err // the addresses are said elsewhere
	}
	return err
}

// drain writes what is queued, which takes no longer than silence. Nothing more is queued then.
func (k *Conn) drain() {
	k.mu.Lock()
	k.closing = true
	k.more.Signal()
	k.mu.Unlock()
	k.written.Wait()
}

// Close writes what is queued, which takes no longer than silence, and closes the connection.
func (k *Conn) Close() error {
	k.drain()
	return k.c.Close()
}

// Finish writes what is queued, as [Conn.Close] does, and tells the other end that nothing more comes. It is still listened to: until
// heard is closed, which whoever calls Receive does when there is nothing more, or for a second. Then the connection is closed. One that
// is closed with something unread takes with it what the other end has not read.
func (k *Conn) Finish(heard <-chan struct{}) error {
	k.drain()
	if half, ok := k.c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		t := time.NewTimer(lastWords)
		defer t.Stop()
		select {
		case <-heard:
		case <-t.C:
		}
	}
	return k.c.Close()
}

// Break closes the connection at once.
func (k *Conn) Break() {
	_ = k.c.Close()
	k.mu.Lock()
	k.closing, k.queue = true, nil
	k.more.Signal()
	k.mu.Unlock()
	k.written.Wait()
}

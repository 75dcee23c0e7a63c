package control

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample() *Message {
	return &Message{
		Kind: 7, Flags: 3, Call: 1 << 40, Epoch: 9, Stage: "sign", Grant: 12, At: -1, Actor: 5, Rank: 3, N: 1 << 50,
		Text: "a line", Names: []string{"x", ""}, Data: []byte{0, 1},
		Tasks: []Task{{ID: "t", Data: []byte("d"), Size: -4, Seq: 8, Number: 2}, {}},
		Files: []File{{Name: "sign/t.1.0.f", Temp: "/w/t", Path: "/w/p", Placed: true, Size: 99, CRC: 0xdeadbeef}},
		Sums:  []Sum{{"rows", -5}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, m := range []*Message{{}, sample()} {
		b := m.Append(nil)
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v", got, err)
		}
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, ErrMessage) {
				t.Errorf("%d of %d bytes: %v", n, len(b), err)
			}
		}
		if _, err := Decode(append(b, 0)); !errors.Is(err, ErrMessage) {
			t.Errorf("a byte too many: %v", err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add((&Message{}).Append(nil))
	f.Add(sample().Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(m.Append(nil))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v, then %+v, %v", m, again, err)
		}
	})
}

// pair returns two ends of a TCP connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestConn(t *testing.T) {
	a, b := pair(t)
	const silence = time.Second
	x, y := NewConn(a, silence), NewConn(b, silence)
	done := make(chan error)
	go func() {
		for i := range 1000 {
			m, err := y.Receive()
			if err != nil || m.N != int64(i) {
				done <- errors.Join(err, errors.New("out of order"))
				return
			}
		}
		// Heartbeats alone keep it alive.
		m, err := y.Receive()
		if err == nil && m.Text != "late" {
			err = errors.New(m.Text)
		}
		done <- err
		_, err = y.Receive()
		done <- err
	}()
	for i := range 1000 {
		m := sample()
		m.N = int64(i)
		if i == 500 {
			m.Data = make([]byte, 3<<20)
		}
		if err := x.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = x.Receive() // an end that does not read looks dead in the end
	}()
	time.Sleep(2 * silence)
	if err := x.Send(&Message{Text: "late"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A heartbeat that comes when all is closed would be answered by a reset.
	finished := make(chan error)
	go func() { finished <- x.Finish(heard) }()
	if err := <-done; err != io.EOF {
		t.Errorf("after the other end has finished: %v", err)
	}
	y.Break()
	if err := <-finished; err != nil {
		t.Error(err)
	}
	if err := y.Send(&Message{}); err == nil {
		t.Error("a closed connection takes a message")
	}
}

// A peer that says nothing is noticed in time, and so is one that does not read.
func TestSilence(t *testing.T) {
	a, b := pair(t)
	defer b.Close()
	const silence = 100 * time.Millisecond
	x := NewConn(a, silence)
	defer x.Break()
	start := time.Now()
	_, err := x.Receive()
	if took := time.Since(start); !errors.Is(err, ErrSilent) || took < silence || took > 100*silence {
		t.Errorf("%v after %v", err, took)
	}

	a, b = pair(t)
	defer b.Close()
	y := NewConn(a, silence)
	defer y.Break()
	for range 64 {
		if err = y.Send(&Message{Data: make([]byte, 1<<20)}); err != nil {
			break
		}
	}
	for wait := 0; err == nil && wait < 1000; wait++ {
		time.Sleep(silence / 10)
		err = y.Send(&Message{})
	}
	if !errors.Is(err, ErrSilent) {
		t.Errorf("a peer that does not read: %v", err)
	}
}

// What an end says before it closes a connection is heard, also by one who finds out by writing that it is closed.
func TestLastWords(t *testing.T) {
	for range 20 {
		a, b := pair(t)
		x := NewConn(a, 10*time.Second)
		if err := x.Send(sample()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(NewFrame(&Message{Text: "the disk is full"})); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(make([]byte, 1)); err != nil { // the rest is unread
			t.Fatal(err)
		}
		b.Close()
		for x.Send(&Message{}) == nil {
			time.Sleep(time.Millisecond)
		}
		if m, err := x.Receive(); err != nil || m.Text != "the disk is full" {
			t.Fatalf("%+v, %v", m, err)
		}
		start := time.Now()
		if m, err := x.Receive(); err == nil || err == io.EOF || time.Since(start) > 5*time.Second {
			t.Fatalf("%+v, %v after %v", m, err, time.Since(start))
		}
		x.Break()
	}
}

// An end that finishes is heard however much it was still told.
func TestFinish(t *testing.T) {
	for range 20 {
		a, b := pair(t)
		x, y := NewConn(a, 10*time.Second), NewConn(b, 10*time.Second)
		heard, said := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(heard)
			for {
				if _, err := x.Receive(); err != nil {
					return
				}
			}
		}()
		go func() {
			defer close(said)
			for y.Send(&Message{Data: make([]byte, 1<<10)}) == nil {
				time.Sleep(time.Microsecond)
			}
		}()
		for i := range 100 {
			if err := x.Send(&Message{N: int64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		finished := make(chan error)
		go func() { finished <- x.Finish(heard) }()
		for i := range 100 {
			if m, err := y.Receive(); err != nil || m.N != int64(i) {
				t.Fatalf("message %d: %+v, %v", i, m, err)
			}
		}
		if m, err := y.Receive(); err != io.EOF {
			t.Fatalf("%+v, %v", m, err)
		}
		y.Break()
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		<-said
	}

	// One who does not answer is not waited for.
	a, b := pair(t)
	defer b.Close()
	x, start := NewConn(a, 10*time.Second), time.Now()
	if err := x.Finish(make(chan struct{})); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestGarbage(t *testing.T) {
	good := NewFrame(sample())
	for name, in := range map[string][]byte{
		"http":      []byte("GET / HTTP/1.1\r\n\r\n"),
		"huge":      {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"bent":      append(bytes.Clone(good[:20]), append([]byte{good[20] ^ 1}, good[21:]...)...),
		"cut short": good[:len(good)-1],
		"header":    good[:5],
	} {
		a, b := pair(t)
		x := NewConn(a, time.Second)
		b.Write(in)
		b.Close()
		if m, err := x.Receive(); err == nil || err == io.EOF || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		x.Break()
	}
}

// NewFrame is what Send writes.
func NewFrame(m *Message) []byte {
	var out bytes.Buffer
	a, b := net.Pipe()
	k := NewConn(a, time.Second)
	go func() { k.Send(m); k.Close() }()
	io.Copy(&out, b)
	return out.Bytes()
}

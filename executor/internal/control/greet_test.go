package control

import (
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// Somebody who has not said who they are cannot stay by saying little, nor have memory set aside for much.
func TestGreet(t *testing.T) {
	limit := 200 * time.Millisecond
	t.Run("slow", func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		k := Greet(a, limit)
		defer k.Break()
		go drain(b)
		go func() {
			for { // heartbeats are no answer
				if _, err := b.Write(make([]byte, 8)); err != nil {
					return
				}
				time.Sleep(limit / 20)
			}
		}()
		start := time.Now()
		if _, err := k.Receive(); err == nil || !strings.Contains(err.Error(), "it has not said who it is") || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
	t.Run("large", func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		k := Greet(a, time.Minute)
		defer k.Break()
		go drain(b)
		go func() { _, _ = b.Write(binary.LittleEndian.AppendUint64(nil, greetingMost+1)) }()
		if _, err := k.Receive(); !errors.Is(err, ErrMessage) {
			t.Errorf("%v", err)
		}
	})
	t.Run("trusted", func(t *testing.T) {
		const limit = time.Second // in which something has to be said on a busy machine
		a, b := net.Pipe()
		k, other := Greet(a, limit), NewConn(b, time.Minute)
		defer k.Break()
		defer other.Break()
		go func() {
			for {
				if _, err := other.Receive(); err != nil {
					return
				}
			}
		}()
		if err := other.Send(&Message{Kind: 1}); err != nil {
			t.Fatal(err)
		}
		if m, err := k.Receive(); err != nil || m.Kind != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
		k.Trust(time.Minute)
		time.AfterFunc(2*limit, func() { _ = other.Send(&Message{Kind: 2, Data: make([]byte, 2*greetingMost)}) })
		if m, err := k.Receive(); err != nil || m.Kind != 2 || k.Silence() != time.Minute {
			t.Errorf("%v, silence %v", err, k.Silence())
		}
	})
}

func drain(c net.Conn) {
	b := make([]byte, 1<<10)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

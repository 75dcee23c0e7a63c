package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/jobtls"
)

// nonsense is what strangers say at an open port.
func nonsense() map[string]func(c net.Conn) {
	say := func(b []byte) func(net.Conn) { return func(c net.Conn) { _, _ = c.Write(b) } }
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	// A frame of the control protocol that promises more than anybody may send who is not known.
	frame := binary.LittleEndian.AppendUint32(nil, 90<<20)
	handshake := func(config *tls.Config) func(net.Conn) {
		return func(c net.Conn) {
			s := tls.Client(c, config)
			if s.Handshake() == nil {
				_, _ = s.Write(noise)
			}
		}
	}
	other, err := jobtls.Config([]byte("not the secret of this job"), "control")
	if err != nil {
		panic(err)
	}
	return map[string]func(c net.Conn){
		"nothing":        func(net.Conn) {},
		"a byte":         say([]byte{0x16}),
		"noise":          say(noise),
		"HTTP":           say([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
		"a greeting":     say([]byte("DVTLtcp\n\x01\x00\x01\x00\xff\xff\xff\xff")),
		"a frame":        say(append(frame, noise...)),
		"TLS":            handshake(&tls.Config{InsecureSkipVerify: true}),
		"another secret": handshake(other),
		"half of TLS":    say([]byte{0x16, 3, 1, 2, 0, 1}),
	}
}

// strangers keeps calling all ports at which ranks listen until the test ends.
type strangers struct {
	root, data atomic.Int64 // calls so far
}

// startStrangers has them say all kinds of things.
func startStrangers(j *job) {
	s := &strangers{}
	things := nonsense()
	s.call(j, 4, func(c net.Conn) {
		defer c.Close()
		for _, say := range things {
			_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
			say(c)
			_, _ = io.Copy(io.Discard, c)
			return // a random one
		}
	})
	for s.root.Load() == 0 {
		<-time.After(time.Millisecond)
	}
}

// startWaiting has them take all places of the root, and of whoever else listens, and say as little as keeps a connection.
func startWaiting(j *job) {
	s := &strangers{}
	s.call(j, 100, func(c net.Conn) {
		defer c.Close()
		first := [][]byte{{0x16, 3, 1}, binary.LittleEndian.AppendUint32(nil, 1<<10), []byte("DVTLtcp\n")}[rand.IntN(3)]
		for b := range bytes.SplitSeq(append(first, make([]byte, 100)...), nil) {
			if _, err := c.Write(b); err != nil {
				return
			}
			select {
			case <-j.Context().Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	for s.root.Load() < 100 {
		<-time.After(time.Millisecond)
	}
}

// call keeps n connections to each port of each rank, and does on each what talk does, until the test ends.
func (s *strangers) call(j *job, n int, talk func(c net.Conn)) {
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	j.Cleanup(func() {
		stop()
		all.Wait()
		if s.root.Load() < int64(n) || s.data.Load() == 0 {
			j.Errorf("strangers have reached the root %d times, and ports for data %d times", s.root.Load(), s.data.Load())
		}
	})
	for leaf := range ranks {
		all.Go(func() {
			places := make(map[int]chan struct{})
			for ctx.Err() == nil {
				ports, err := j.lab.Listening(leaf)
				if err != nil {
					j.Error(err)
					return
				}
				for _, port := range ports {
					count := &s.data
					if leaf == 0 && fmt.Sprint(port) == rootPort {
						count = &s.root
					}
					if places[port] == nil {
						places[port] = make(chan struct{}, n)
					}
					s.fill(ctx, j, &all, places[port], net.JoinHostPort(j.lab.Addr(leaf), fmt.Sprint(port)), count, talk)
				}
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
}

// fill makes as many connections as there is room for.
func (s *strangers) fill(ctx context.Context, j *job, all *sync.WaitGroup, places chan struct{}, addr string, count *atomic.Int64, talk func(c net.Conn)) {
	for {
		select {
		case places <- struct{}{}:
		default:
			return
		}
		dial, cancel := context.WithTimeout(ctx, time.Second)
		c, err := j.lab.Dial(dial, stranger, addr)
		cancel()
		if err != nil {
			<-places
			return
		}
		count.Add(1)
		all.Go(func() {
			defer func() { <-places }()
			talk(c)
		})
	}
}

package tcp

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Only who has the secret is let in: not one without a certificate, not one with a certificate for the same name,
// not one who shows the job's certificate without its key, not one who speaks an older TLS.
func TestOnlyWithTheSecret(t *testing.T) {
	job, err := identity(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := identity([]byte("another secret of 32 bytes......"))
	if err != nil {
		t.Fatal(err)
	}
	stranger.VerifyConnection = nil // it would talk to anybody
	_, wrongKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *tls.Config){
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
		"another secret": func(*tls.Config) {},
		"certificate, no key": func(c *tls.Config) {
			c.Certificates = job.Clone().Certificates
			c.Certificates[0].PrivateKey = wrongKey
		},
		"older TLS": func(c *tls.Config) {
			c.Certificates, c.MinVersion, c.MaxVersion = job.Certificates, tls.VersionTLS12, tls.VersionTLS12
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, l := listenAs(t, 0, 2)
			g.tls = job
			heard := make(chan error, 1)
			go func() { heard <- acceptOne(t, g, l) }()
			config := stranger.Clone()
			config.Certificates = append([]tls.Certificate(nil), config.Certificates...)
			change(config)
			c, err := net.Dial("tcp", l.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			s := tls.Client(c, config)
			h := hello{rank: 1, size: 2, window: 1 << 20, job: "test", spec: "same"}
			if _, err = s.Write(h.encode(greetingVersion)); err == nil {
				_, err = s.Read(make([]byte, 1))
			}
			if err == nil {
				t.Error("it was answered")
			}
			if err := <-heard; err == nil {
				t.Error("it was let in")
			}
		})
	}
	// The other way round: a rank that calls does not talk to whom it cannot trust.
	t.Run("server", func(t *testing.T) {
		g, l := listenAs(t, 0, 2)
		g.tls = stranger
		heard := make(chan error, 1)
		go func() { heard <- acceptOne(t, g, l) }()
		other := *g
		other.me.rank, other.tls = 1, job
		_, _, err := callAs(t, &other, l, 0)
		wantLine(t, err, errSecret.Error())
		wantLine(t, <-heard, errSecret.Error())
	})
}

// Nothing of a message can be read on the wire, and who changes a byte on the way breaks the link.
func TestTampering(t *testing.T) {
	ours, middle1 := pipe(t)
	middle2, theirs := pipe(t)
	seen := make(chan []byte, 1)
	relay := func(from, to net.Conn, flipAt int) []byte {
		var all []byte
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if at := flipAt - len(all); at >= 0 && at < n {
				buf[at] ^= 4
			}
			all = append(all, buf[:n]...)
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				_, _ = from.Close(), to.Close()
				return all
			}
		}
	}
	go relay(middle2, middle1, -1)
	go func() { seen <- relay(middle1, middle2, 200_000) }()
	g, _ := listenAs(t, 0, 2)
	var err error
	if g.tls, err = identity(testSecret); err != nil {
		t.Fatal(err)
	}
	other := *g
	other.me.rank = 1
	called := make(chan net.Conn, 1)
	go func() {
		c, _, err := other.call(t.Context(), ours, 0)
		if err != nil {
			t.Error(err)
		}
		called <- c
	}()
	a, _, err := g.receive(t.Context(), theirs, func(int) *refusal { return nil })
	if err != nil {
		t.Fatal(err)
	}
	b := <-called
	if b == nil {
		t.FailNow()
	}
	start := func(rank int, c net.Conn) *Transport {
		o := Options{Rank: rank, Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}
		o.EnsureDefaults()
		conns := make([]net.Conn, 2)
		conns[1-rank] = c
		return newTransport(o, conns, []int{o.window(), o.window()})
	}
	receiver, sender := start(0, a), start(1, b)
	defer receiver.Close()
	defer sender.Close()
	secretText := []byte("nobody else may read this")
	for range 8 {
		header := bytes.Repeat(secretText, 2000)
		if err := sender.Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 0, Header: header}}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		var events [1]shuffle.Event
		n, err := receiver.Poll(events[:])
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			<-receiver.Ready()
			continue
		}
		if ev := events[0]; ev.Kind == shuffle.EventPeerDown {
			if !strings.Contains(ev.Err.Error(), "bad record MAC") {
				t.Error(ev.Err)
			}
			break
		} else if !bytes.Equal(ev.Header, bytes.Repeat(secretText, 2000)) {
			t.Fatal("a changed message was delivered")
		}
	}
	waitEvent(t, sender, shuffle.EventPeerDown)
	if wire := <-seen; len(wire) < 200_000 || bytes.Contains(wire, secretText) || bytes.Contains(wire, []byte("same")) {
		t.Errorf("%d bytes on the wire, with readable ones", len(wire))
	}
}

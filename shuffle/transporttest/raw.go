package transporttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// node drives one endpoint as a communicator would: it polls, accepts offers, and keeps what arrived.
type node struct {
	*testing.T
	shuffle.Transport
	alloc    *mem.Checked
	got      [][]rawMessage // by peer, in order
	sent     map[uint64]bool
	down     map[int]error
	offers   []shuffle.Op // answers to be posted
	underWay []int        // sends per peer that are not confirmed
	peerOf   map[uint64]int
}

type rawMessage struct {
	header  string
	payload []byte
}

func newNodes(t *testing.T, makeTransports Make, size int) []*node {
	t.Helper()
	leakCheck(t)
	alloc := mem.NewChecked(t, mem.Host())
	var nodes []*node
	for _, tr := range makeTransports(t, size) {
		nodes = append(nodes, &node{
			T: t, Transport: tr, alloc: alloc, got: make([][]rawMessage, size),
			sent: make(map[uint64]bool), down: make(map[int]error),
			underWay: make([]int, size), peerOf: make(map[uint64]int),
		})
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			if err := n.Close(); err != nil {
				t.Errorf("close rank %d: %v", n.Rank(), err)
			}
			for _, op := range n.offers { // not posted any more
				for _, b := range op.Payload {
					b.Release()
				}
			}
		}
	})
	return nodes
}

// turn polls once and handles what came. It reports whether anything did.
func (n *node) turn() bool {
	n.Helper()
	if len(n.offers) > 0 {
		if err := n.Post(n.offers); err != nil {
			n.Fatalf("rank %d: %v", n.Rank(), err)
		}
		n.offers = nil
	}
	var events [7]shuffle.Event
	k, err := n.Poll(events[:])
	if err != nil {
		n.Fatalf("rank %d: %v", n.Rank(), err)
	}
	for _, ev := range events[:k] {
		if n.down[ev.Peer] != nil {
			n.Errorf("rank %d: event %d of rank %d after it was down", n.Rank(), ev.Kind, ev.Peer)
		}
		switch ev.Kind {
		case shuffle.EventMessage:
			m := rawMessage{header: string(ev.Header)}
			for _, b := range ev.Payload {
				m.payload = append(m.payload, b.Bytes()...)
				b.Release()
			}
			n.got[ev.Peer] = append(n.got[ev.Peer], m)
		case shuffle.EventOffer:
			op := shuffle.Op{Kind: shuffle.OpAccept, Peer: ev.Peer, Cookie: ev.Cookie}
			for left := ev.Size; left > 0; {
				part := min(left, 10_000) // other pieces than the sender's
				left -= part
				op.Payload = append(op.Payload, n.buffer(int(part)))
			}
			n.offers = append(n.offers, op)
		case shuffle.EventSent:
			if n.sent[ev.Cookie] || n.peerOf[ev.Cookie] != ev.Peer {
				n.Errorf("rank %d: cookie %d of rank %d confirmed twice or by another rank", n.Rank(), ev.Cookie, ev.Peer)
			}
			n.sent[ev.Cookie] = true
			n.underWay[ev.Peer]--
		case shuffle.EventPeerDown:
			n.down[ev.Peer] = ev.Err
			if ev.Err == nil {
				n.Errorf("rank %d: rank %d is down without a reason", n.Rank(), ev.Peer)
			}
		}
	}
	return k > 0 || len(n.offers) > 0
}

func (n *node) buffer(size int) *mem.Buffer {
	b, err := n.alloc.Alloc(size)
	if err != nil {
		n.Fatal(err)
	}
	return b
}

// send posts one message whose header and payload follow from its number.
func (n *node) send(to int, number uint64, sizes ...int) {
	n.Helper()
	op := shuffle.Op{Kind: shuffle.OpSend, Peer: to, Cookie: number<<8 | uint64(to), Header: rawHeader(number)}
	for i, size := range sizes {
		b := n.buffer(size)
		copy(b.Bytes(), rawPiece(number, i, size))
		op.Payload = append(op.Payload, b)
	}
	n.peerOf[op.Cookie] = to
	n.underWay[to]++
	if err := n.Post([]shuffle.Op{op}); err != nil {
		n.Fatalf("rank %d to %d: %v", n.Rank(), to, err)
	}
	// Post has copied the header: changing it must do no harm.
	clear(op.Header)
}

func rawHeader(number uint64) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, 0, 200), number)
}

func rawPayload(number uint64, sizes ...int) (b []byte) {
	for i, size := range sizes {
		b = append(b, rawPiece(number, i, size)...)
	}
	return b
}

// rawPattern is what payloads are cut from.
var rawPattern = func() []byte {
	b := make([]byte, 1<<18)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}()

// rawPiece returns the i-th piece of the payload of a message.
func rawPiece(number uint64, i, size int) []byte {
	off := int(number*7+uint64(i)*31) % 1000
	return rawPattern[off : off+size]
}

// until turns all nodes until cond holds, sleeping on Ready when there is nothing to do.
func until(t *testing.T, nodes []*node, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
		any := false
		for _, n := range nodes {
			any = n.turn() || any
		}
		if !any {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func runTransport(t *testing.T, makeTransports Make, sizes []int) {
	t.Run("order and content", func(t *testing.T) {
		forSizes(t, sizes, func(t *testing.T, size int) { testOrder(t, newNodes(t, makeTransports, size)) })
	})
	t.Run("ready wakes", func(t *testing.T) { testReady(t, newNodes(t, makeTransports, 2)) })
	t.Run("slow receiver", func(t *testing.T) { testSlow(t, newNodes(t, makeTransports, 3)) })
	t.Run("largest", func(t *testing.T) { testLargest(t, newNodes(t, makeTransports, 2)) })
	t.Run("close", func(t *testing.T) { testClose(t, newNodes(t, makeTransports, 3)) })
	t.Run("close with messages under way", func(t *testing.T) { testCloseBusy(t, newNodes(t, makeTransports, 2)) })
	t.Run("misuse", func(t *testing.T) { testMisuse(t, newNodes(t, makeTransports, 2)) })
	t.Run("alloc", func(t *testing.T) { testAlloc(t, newNodes(t, makeTransports, 1)[0]) })
	t.Run("refuse", func(t *testing.T) { testRefuse(t, newNodes(t, makeTransports, 2)) })
}

// Every pair exchanges messages of all shapes: none is lost, doubled, changed or overtaken.
func testOrder(t *testing.T, nodes []*node) {
	each := 600 / len(nodes)
	shapes := [][]int{{}, {1}, {100, 1, 7}, {}, {5000}, {1 << 17, 3}}
	rng := rand.New(rand.NewPCG(1, 2))
	next := make(map[[2]int]int)
	for left := len(nodes) * (len(nodes) - 1) * each; left > 0; {
		from, to := rng.IntN(len(nodes)), rng.IntN(len(nodes))
		k := next[[2]int{from, to}]
		if from == to || k == each {
			continue
		}
		until(t, nodes, "room to send", func() bool { return nodes[from].underWay[to] < shuffle.MaxInFlight })
		nodes[from].send(to, uint64(from*each+k)<<8|uint64(to), shapes[k%len(shapes)]...)
		next[[2]int{from, to}]++
		left--
	}
	until(t, nodes, "all messages", func() bool {
		for _, n := range nodes {
			for p := range nodes {
				if p != n.Rank() && (len(n.got[p]) < each || n.underWay[p] > 0) {
					return false
				}
			}
		}
		return true
	})
	for _, n := range nodes {
		for p := range nodes {
			for k, m := range n.got[p] {
				number := uint64(p*each+k)<<8 | uint64(n.Rank())
				if m.header != string(rawHeader(number)) || string(m.payload) != string(rawPayload(number, shapes[k%len(shapes)]...)) {
					t.Fatalf("message %d from rank %d to %d is another or was changed", k, p, n.Rank())
				}
			}
		}
	}
}

// A rank that sleeps on Ready is woken by a message, and the sender by the confirmation.
func testReady(t *testing.T, nodes []*node) {
	wait := func(n *node) {
		t.Helper()
		select {
		case <-n.Ready():
		case <-time.After(patience):
			t.Fatalf("rank %d was not woken", n.Rank())
		}
	}
	for i := range 50 {
		for nodes[0].turn() || nodes[1].turn() {
			continue
		}
		nodes[0].send(1, uint64(i), 10)
		for len(nodes[1].got[0]) <= i {
			wait(nodes[1])
			for nodes[1].turn() {
				continue
			}
		}
		for nodes[0].underWay[1] > 0 {
			wait(nodes[0])
			for nodes[0].turn() {
				continue
			}
		}
	}
}

// MaxInFlight messages go to a rank that does not poll, without blocking and without holding up others.
func testSlow(t *testing.T, nodes []*node) {
	for i := range shuffle.MaxInFlight {
		nodes[0].send(1, uint64(i), 2000)
	}
	awake := []*node{nodes[0], nodes[2]}
	nodes[0].send(2, 1000, 50)
	until(t, awake, "a message past the slow rank", func() bool { return len(nodes[2].got[0]) == 1 })
	until(t, nodes, "the slow rank", func() bool { return len(nodes[1].got[0]) == shuffle.MaxInFlight })
}

// The largest header and the most pieces pass.
func testLargest(t *testing.T, nodes []*node) {
	op := shuffle.Op{Kind: shuffle.OpSend, Peer: 1, Cookie: 5, Header: make([]byte, shuffle.MaxHeader)}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range op.Header {
		op.Header[i] = byte(rng.Uint32())
	}
	header := string(op.Header)
	var payload []byte
	for i := range shuffle.MaxPieces {
		b := nodes[0].buffer(1 + i)
		for j := range b.Bytes() {
			b.Bytes()[j] = byte(rng.Uint32())
		}
		payload = append(payload, b.Bytes()...)
		op.Payload = append(op.Payload, b)
	}
	nodes[0].peerOf[5] = 1
	if err := nodes[0].Post([]shuffle.Op{op}); err != nil {
		t.Fatal(err)
	}
	until(t, nodes, "the message", func() bool { return len(nodes[1].got[0]) == 1 })
	if m := nodes[1].got[0][0]; m.header != header || string(m.payload) != string(payload) {
		t.Fatal("the message was changed")
	}
}

// What was sent before Close arrives before the news of it, on every peer; calls after it fail.
func testClose(t *testing.T, nodes []*node) {
	for i := range 20 {
		nodes[0].send(1, uint64(i), 100)
		nodes[0].send(2, uint64(i), 100)
	}
	until(t, nodes, "confirmations", func() bool { return nodes[0].underWay[1]+nodes[0].underWay[2] == 0 })
	if err := nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	until(t, nodes[1:], "news of the close", func() bool { return nodes[1].down[0] != nil && nodes[2].down[0] != nil })
	for _, n := range nodes[1:] {
		if len(n.got[0]) != 20 {
			t.Errorf("rank %d got %d messages before the close", n.Rank(), len(n.got[0]))
		}
	}
	if _, err := nodes[0].Poll(make([]shuffle.Event, 1)); !errors.Is(err, shuffle.ErrClosed) {
		t.Errorf("poll after close: %v", err)
	}
	b := nodes[0].buffer(10)
	err := nodes[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Header: []byte("x"), Payload: []*mem.Buffer{b}}})
	if !errors.Is(err, shuffle.ErrClosed) {
		t.Errorf("post after close: %v", err)
	}
	nodes[1].send(2, 99, 10)
	until(t, nodes[1:], "a message among the rest", func() bool { return len(nodes[2].got[1]) == 1 })
	// A send to a rank that is gone is not an error of the endpoint, and its buffer is released.
	nodes[1].send(0, 98, 10)
	for nodes[1].turn() {
		continue
	}
}

// Closing both ends with messages on the way releases them all: the clean-up finds no leak.
func testCloseBusy(t *testing.T, nodes []*node) {
	for i := range 30 {
		nodes[0].send(1, uint64(i), 100)
		nodes[1].send(0, uint64(i), 100, 5)
		if i == 10 {
			nodes[1].turn()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = nodes[1].Close()
	}()
	if err := nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	_ = nodes[0].Close()
}

// A wrong peer is refused, and the payload released.
func testMisuse(t *testing.T, nodes []*node) {
	for _, peer := range []int{-1, 0, 2} {
		b := nodes[0].buffer(10)
		if err := nodes[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: peer, Payload: []*mem.Buffer{b}}}); err == nil {
			t.Errorf("post to rank %d of 2 was taken", peer)
		}
	}
}

func testAlloc(t *testing.T, n *node) {
	for _, size := range []int{0, 1, 63, 4096, 1 << 20} {
		b, err := n.Alloc(mem.TierHost, size)
		if err != nil || b.Len() != size || b.Tier() != mem.TierHost || len(b.Bytes()) != size {
			t.Fatalf("alloc of %d bytes: %v", size, err)
		}
		b.Release()
	}
	if b, err := n.Alloc(mem.TierDisk, 10); !errors.Is(err, mem.ErrNoMemory) {
		b.Release()
		t.Errorf("alloc on disk: %v", err)
	}
}

// A refused offer is as if the message had not been sent, for the receiver; later ones still come.
func testRefuse(t *testing.T, nodes []*node) {
	if !nodes[0].Features().Offers {
		t.Skip("the transport does not offer")
	}
	nodes[0].send(1, 1, 500)
	nodes[0].send(1, 2, 600)
	deadline := time.Now().Add(patience)
	for refused := false; !refused; {
		var events [1]shuffle.Event
		k, err := nodes[1].Poll(events[:])
		if err != nil || time.Now().After(deadline) {
			t.Fatal("no offer", err)
		}
		if ev := events[0]; k == 1 {
			if ev.Kind != shuffle.EventOffer || ev.Size != 500 {
				t.Fatalf("event %d of %d bytes instead of an offer", ev.Kind, ev.Size)
			}
			if err := nodes[1].Post([]shuffle.Op{{Kind: shuffle.OpRefuse, Peer: 0, Cookie: ev.Cookie}}); err != nil {
				t.Fatal(err)
			}
			refused = true
		}
		nodes[0].turn()
	}
	until(t, nodes, "the second message", func() bool { return len(nodes[1].got[0]) == 1 })
	if m := nodes[1].got[0][0]; m.header != string(rawHeader(2)) {
		t.Errorf("got %s", fmt.Sprintf("%x", m.header))
	}
}

package shuffle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// # Memory, and why it cannot deadlock
//
// What is charged to the budget. The data of a chunk, from its allocation (Shuffler.Alloc) to its release;
// the charge stays with the buffer. A transport that hands buffers over moves the charge with them, so
// receiving needs no memory. A transport that copies receives into a pool that New reserved: credit never
// exceeds the pool, so accepting needs no memory either. Entries in the lists of chunks, metas and open ledger
// lines are charged without waiting (mem.Budget.Charge) and bounded otherwise: tiny chunks are spilled for the sake
// of their entries and then need none (index.go), credit is withheld meanwhile, Insert counts the entries of its
// queues against OutgoingLimit, and more than half of the limit ends the operation.
//
// Who waits for memory. Only these call Budget.Reserve: programs (Alloc, Extract, the steps of Chunks),
// and the loader, which reads back one message's worth of chunks that were queued for a peer, then spilled,
// and can be sent now. Receiving, spilling, sending, credit and control never wait for memory.
//
// Who holds memory, and what each needs to let go of it:
//
//	received chunks       spilled at any time; needs nothing but disk
//	queued chunks         spilled at any time; needs nothing but disk
//	chunks being sent     the peer polls; needs nothing (they go to where received chunks are, or are freed)
//	chunks in the pool    charged if there is room, else spilled; needs nothing but disk
//	chunks loaded to be   at the head of a queue with credit in hand: they are posted in the same step, or
//	  sent                stay queued and are spilled again
//	programs              whatever they do between Alloc and Insert, and with chunks they extracted
//
// So every byte the shuffle holds can be freed without any other being granted, as long as somebody asks.
// Somebody does: a reservation that does not fit is queued and then calls pressed; and whatever becomes
// spillable later, because it was under way at that moment, looks whether someone is queued (see spillable).
// One of the two sees the other. Requests are served in the order they came,
// so a large one is not starved. What remains is programs: one that holds memory which it releases only after
// others get some can stop itself, as with any lock. Insert is no such trap: it waits for room in the
// outgoing queue, and the queue shrinks by sending, for which the peer needs no memory, or by being spilled
// under pressure.
//
// Credit cannot deadlock either. A rank that has data and no credit asks for it; the receiver serves
// requests in order, and the pool has room for the first once what is under way has been placed: see
// machine.serveWants. Placing needs no memory, as said. A rank that waits for credit holds none that others
// lack, beyond its share; what it does not need it gives back.
//
// A limit of 1 MiB, eight ranks in one process, chunks of 256 KiB: the defaults give MaxChunk 256 KiB,
// OutgoingLimit and ReceiveWindow 128 KiB, so no rank has an unasked share worth having and every chunk is
// asked for, one at a time per receiver. At most four chunks exist in memory. An inserter waits in Alloc;
// the pressure spills whatever of the four is queued or received; those under way arrive within a few
// polls and are spilled by the spiller. A rank whose queue was spilled gets its chunk back when the loader's
// turn comes, sends it in the same step, and the receiver keeps or spills it. The conformance suite does
// this: "tiny budget" in transporttest.

// reserve waits for n bytes of the budget. It returns nil without a budget.
func (s *Shuffler) reserve(ctx context.Context, n int64) (*mem.Reservation, error) {
	if s.opts.Budget == nil || n == 0 {
		return nil, nil
	}
	if res, ok := s.opts.Budget.TryReserve(s.opts.Purpose, n); ok {
		return res, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	defer cancel(nil)
	start := time.Now()
	res, err := s.opts.Budget.Reserve(ctx, s.opts.Purpose, n)
	s.mu.Lock()
	s.stats.MemoryWait += time.Since(start)
	s.mu.Unlock()
	return res, err
}

// allocFrom makes a buffer of n bytes paid for by res, which is used up; nil means without charge.
func (s *Shuffler) allocFrom(res *mem.Reservation, n int) (*mem.Buffer, error) {
	if res == nil {
		return s.opts.Alloc.Alloc(n)
	}
	b, err := res.Alloc(s.opts.Alloc, n)
	if err != nil {
		res.Release()
	}
	return b, err
}

// receivePoolMemory is the memory for chunks that a copying transport receives: as much as peers have
// credit for, reserved when the operation starts.
type receivePoolMemory struct {
	alloc   mem.Allocator
	budget  *mem.Budget
	purpose mem.Purpose
	res     *mem.Reservation

	mu   sync.Mutex
	room int64 // bytes not in use
	live map[*mem.Buffer]*pooledMemory
}

// pooledMemory is the memory of one received chunk. It belongs to the pool until it is adopted.
type pooledMemory struct {
	inner   *mem.Buffer
	adopted bool
}

func newReceivePoolMemory(o *Options) (*receivePoolMemory, error) {
	n := int64(receivePool(o.ReceiveWindow, o.MaxChunk))
	p := &receivePoolMemory{
		alloc: o.Alloc, budget: o.Budget, purpose: o.Purpose, room: n, live: make(map[*mem.Buffer]*pooledMemory),
	}
	if o.Budget == nil {
		return p, nil
	}
	// A context that has ended makes Reserve ask holders to spill, and then fail instead of wait.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var err error
	if p.res, err = o.Budget.Reserve(ctx, o.Purpose, n); err != nil {
		return nil, fmt.Errorf("shuffle: op %d needs %d bytes to receive (ReceiveWindow and one chunk of MaxChunk): %w",
			o.Op, n, &mem.NoMemoryError{Purpose: o.Purpose, Need: n, Limit: o.Budget.Limit()})
	}
	return p, nil
}

// take makes a buffer for n bytes to be received, or returns nil if the pool or the machine has no room.
// The first means that a peer exceeds its credit.
func (p *receivePoolMemory) take(n int64) *mem.Buffer {
	p.mu.Lock()
	if n > p.room {
		p.mu.Unlock()
		return nil
	}
	p.room -= n
	p.mu.Unlock()
	inner, err := p.alloc.Alloc(int(n))
	if err != nil {
		p.mu.Lock()
		p.room += n
		p.mu.Unlock()
		return nil
	}
	m := &pooledMemory{inner: inner}
	b := mem.Around(inner, func(b *mem.Buffer) {
		m.inner.Release()
		p.mu.Lock()
		delete(p.live, b)
		if !m.adopted {
			p.room += n
		}
		p.mu.Unlock()
	})
	p.mu.Lock()
	p.live[b] = m
	p.mu.Unlock()
	return b
}

// received says whether a chunk that has arrived lies in the pool, after trying to charge it to the budget.
func (p *receivePoolMemory) received(it *item) {
	if p != nil {
		it.pooled = !p.adopt(it)
	}
}

// adopt charges a received chunk to the budget, if there is room for it, so that its memory leaves the
// pool. It reports whether it did.
func (p *receivePoolMemory) adopt(it *item) bool {
	var res *mem.Reservation
	if p.budget != nil {
		var ok bool
		if res, ok = p.budget.TryReserve(p.purpose, it.size); !ok {
			return false
		}
		defer res.Release()
	}
	return p.charge(it, res) == nil
}

// charge moves a chunk out of the pool at the expense of a reservation of at least its size, or of nothing
// if there is no budget.
func (p *receivePoolMemory) charge(it *item, res *mem.Reservation) error {
	inner := it.data
	if res != nil {
		b, err := res.Alloc(existing{inner}, int(it.size))
		if err != nil {
			return err
		}
		it.data = b
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.live[inner]; m != nil && !m.adopted {
		m.adopted = true
		p.room += it.size
	}
	return nil
}

// existing is an allocator that returns a buffer that exists, so that a reservation can be made to pay for
// it.
type existing struct{ b *mem.Buffer }

func (e existing) Alloc(int) (*mem.Buffer, error) { return e.b, nil }
func (e existing) Tier() mem.Tier                 { return e.b.Tier() }

// release gives the reservation back when the operation is over.
func (p *receivePoolMemory) release() {
	if p != nil {
		p.res.Release()
	}
}

// accept makes the buffers for the chunks of an offered message. It returns nil to refuse it, and aborts the
// operation if that is the peer's fault.
func (s *Shuffler) accept(p prefix, body []byte, size int64) []*mem.Buffer {
	fail := func(err error) {
		s.Abort(fmt.Errorf("%s from rank %d to rank %d: %w", p.kind, p.source, s.comm.rank, err))
	}
	if p.kind != msgData || s.pool == nil {
		fail(corrupt("a payload that no chunk claims"))
		return nil
	}
	s.mu.Lock()
	over := s.failed() != nil
	s.mu.Unlock()
	if over {
		return nil
	}
	var bufs []*mem.Buffer
	refuse := func(err error) []*mem.Buffer {
		for _, b := range bufs {
			b.Release()
		}
		fail(err)
		return nil
	}
	var h chunkHeader
	for range p.count {
		if err := decodeChunkHeader(body, &h); err != nil {
			return refuse(err)
		}
		body = body[min(len(body), ChunkHeaderSize+h.metaLen):]
		if h.size == 0 {
			continue
		}
		size -= h.size
		b := s.pool.take(h.size)
		if b == nil {
			return refuse(fmt.Errorf("%w: task %d, partition %d: %d bytes beyond the credit, or out of memory",
				ErrProtocol, h.task, h.part, h.size))
		}
		bufs = append(bufs, b)
	}
	if size != 0 {
		return refuse(corrupt("the payload is %d bytes longer than its chunks", size))
	}
	return bufs
}

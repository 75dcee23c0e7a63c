package mem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Level is what a [Store] may hold in one tier.
type Level struct {
	// Alloc makes buffers of the tier.
	Alloc Allocator
	// Limit bounds the bytes that the store holds there, 0 for what the allocator has. What is more is moved down. It is
	// RapidsMPF's spill_memory_limit if the tier is the device's.
	Limit int64
}

// StoreOptions say where a [Store] holds what it is given.
type StoreOptions struct {
	// Levels are the tiers in memory, of which there is at least one: the device's, pinned and ordinary memory.
	Levels []Level
	// Dir is the folder of spilled items, which are files there; empty if nothing may go to disk.
	Dir string
	// Copy copies src to dst, which have one length, if one of them is on a device, and returns when it is done. It is called from
	// several goroutines. It may be nil if there is no level of a device.
	Copy func(dst, src *Buffer) error
}

// Store holds buffers until they are needed again. When a tier is short of room it moves items down, to the next tier that has
// room or can make some, at last to disk: those first that are needed last. An item that someone uses is never moved. It is
// safe for concurrent use; copies are made without its lock.
type Store struct {
	copy   func(dst, src *Buffer) error
	dir    string
	levels [NumTiers]*level

	mu    sync.Mutex
	moved sync.Cond
	items map[*Item]struct{}
	order uint64
	stats StoreStats
}

type level struct {
	Level
	held int64
}

// StoreStats says what a [Store] did, by tiers.
type StoreStats struct {
	Held  [NumTiers]int64           // bytes of items there now
	Peak  [NumTiers]int64           // the most at one time
	Items [NumTiers]int             // there now
	Moves [NumTiers][NumTiers]Moved // from, to
	Reads [NumTiers]Moved           // copies by [Item.Read] of items that stayed in the tier
}

// Moved counts moves.
type Moved struct {
	Items, Bytes int64
	Time         time.Duration
}

// Spilled returns the bytes that were moved down, and Returned those that were moved up.
func (s *StoreStats) Spilled() int64 { return s.sum(func(from, to int) bool { return to > from }) }

// Returned returns the bytes that were moved up.
func (s *StoreStats) Returned() int64 { return s.sum(func(from, to int) bool { return to < from }) }

// Into returns the bytes that were moved down to a tier.
func (s *StoreStats) Into(t Tier) int64 {
	return s.sum(func(from, to int) bool { return to == int(t) && from < to })
}

// Add adds what another store did; peaks become the larger of the two.
func (s *StoreStats) Add(o *StoreStats) {
	for t := range s.Held {
		s.Held[t] += o.Held[t]
		s.Items[t] += o.Items[t]
		s.Peak[t] = max(s.Peak[t], o.Peak[t])
		s.Reads[t].add(o.Reads[t])
		for to := range s.Moves[t] {
			s.Moves[t][to].add(o.Moves[t][to])
		}
	}
}

func (m *Moved) add(o Moved) {
	m.Items += o.Items
	m.Bytes += o.Bytes
	m.Time += o.Time
}

func (s *StoreStats) sum(counts func(from, to int) bool) (n int64) {
	for from := range s.Moves {
		for to, m := range s.Moves[from] {
			if counts(from, to) {
				n += m.Bytes
			}
		}
	}
	return n
}

// Item is something that a [Store] holds.
type Item struct {
	s       *Store
	n       int
	tier    Tier
	buf     *Buffer // nil on disk
	file    string  // on disk
	ready   Fence   // of the work that writes it
	next    int64   // when it is needed
	order   uint64  // of two that are needed at one time the older one is needed first
	users   int
	moving  bool     // by one goroutine, which alone touches buf, file and ready
	sinking *sinking // down; nil if it is not
	gone    bool
}

// sinking is one move of an item down. It outlives the move for those who wait for its end: the item may be on its next one by then,
// which whoever waits has begun.
type sinking struct {
	ended bool
	freed int64 // bytes; 0 if the item found no place
}

// NewStore returns an empty store. The caller closes it.
func NewStore(o StoreOptions) (*Store, error) {
	s := &Store{copy: o.Copy, dir: o.Dir, items: make(map[*Item]struct{})}
	s.moved.L = &s.mu
	for _, l := range o.Levels {
		t := l.Alloc.Tier()
		if t == TierDisk || s.levels[t] != nil {
			return nil, fmt.Errorf("mem: a store with two levels of tier %s, or one of the disk", t)
		}
		if t == TierDevice && o.Copy == nil {
			return nil, errors.New("mem: a store with a device needs a Copy")
		}
		s.levels[t] = &level{Level: l}
	}
	if len(o.Levels) == 0 {
		return nil, errors.New("mem: a store without levels")
	}
	return s, nil
}

// Put takes ownership of a buffer of one of the tiers. next says when it is needed again: an item with a larger one is
// moved down before. ready is the fence of the work that writes the buffer, nil if that is done; it is not moved before, and others
// are rather. The fence is asked and waited for by one goroutine at a time.
func (s *Store) Put(b *Buffer, ready Fence, next int64) (*Item, error) {
	s.mu.Lock()
	l := s.levels[b.tier]
	if l == nil {
		s.mu.Unlock()
		b.Release()
		return nil, fmt.Errorf("mem: a store without the tier %s", b.tier)
	}
	s.mu.Unlock()
	// Others make room for it, if they can; where they are in use, or it is larger than all there may be, the limit is kept as soon
	// as something can be moved.
	fits, err := s.reserve(b.tier, b.Len())
	if err != nil {
		b.Release()
		return nil, err
	}
	s.mu.Lock()
	s.order++
	it := &Item{s: s, n: b.Len(), tier: b.tier, buf: b, ready: ready, next: next, order: s.order}
	s.items[it] = struct{}{}
	s.hold(it.tier, it.n, 1)
	over := int64(0)
	if !fits {
		l.held += int64(it.n)
		over = l.held - l.Limit
	}
	s.mu.Unlock()
	if over > 0 {
		if _, err := s.MakeRoom(b.tier, over); err != nil {
			it.Drop()
			return nil, err
		}
	}
	return it, nil
}

// hold counts an item of n bytes into a tier, or with a sign of -1 out of it. The lock is held.
func (s *Store) hold(t Tier, n, sign int) {
	n *= sign
	s.stats.Held[t] += int64(n)
	s.stats.Items[t] += sign
	s.stats.Peak[t] = max(s.stats.Peak[t], s.stats.Held[t])
}

// reserve counts n bytes more against the limit of a tier, before they are moved there, and moves others down if need be. It
// reports false if there is no room.
func (s *Store) reserve(t Tier, n int) (ok bool, err error) {
	l := s.levels[t]
	for {
		s.mu.Lock()
		over := int64(0)
		if l.Limit > 0 {
			over = l.held + int64(n) - l.Limit
		}
		if over <= 0 {
			l.held += int64(n)
		}
		s.mu.Unlock()
		if over <= 0 {
			return true, nil
		}
		if int64(n) > l.Limit {
			return false, nil
		}
		if freed, err := s.MakeRoom(t, over); err != nil || freed == 0 {
			return false, err
		}
	}
}

// unreserve takes n bytes off what is counted in a tier.
func (s *Store) unreserve(t Tier, n int) {
	if l := s.levels[t]; l != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.held -= int64(n)
	}
}

// room allocates n bytes of a tier for an item that is moved there. A nil buffer says that there is no room.
func (s *Store) room(t Tier, n int) (*Buffer, error) {
	ok, err := s.reserve(t, n)
	if !ok || err != nil {
		return nil, err
	}
	b, err := s.Alloc(t, n)
	if err != nil {
		s.unreserve(t, n)
		if errors.Is(err, ErrNoMemory) {
			return nil, nil
		}
		return nil, err
	}
	return b, nil
}

// Alloc allocates working memory of a tier, and moves items down if there is no room. The error wraps [ErrNoMemory] if that was not
// enough.
func (s *Store) Alloc(t Tier, n int) (*Buffer, error) {
	l := s.levels[t]
	if l == nil {
		return nil, fmt.Errorf("mem: a store without the tier %s", t)
	}
	for {
		b, err := l.Alloc.Alloc(n)
		if !errors.Is(err, ErrNoMemory) {
			return b, err
		}
		freed, spilling := s.MakeRoom(t, int64(n))
		if spilling != nil {
			return nil, spilling
		}
		if freed == 0 {
			return nil, err
		}
	}
}

// MakeRoom moves items of a tier down until need bytes were freed there, or nothing is left that can be moved, and returns how
// many were.
func (s *Store) MakeRoom(t Tier, need int64) (freed int64, err error) {
	for freed < need {
		it, sunk := s.victim(t)
		if freed += sunk; sunk > 0 {
			continue
		}
		if it == nil {
			return freed, nil
		}
		ok, err := s.down(it)
		if err != nil || !ok {
			return freed, err
		}
		freed += int64(it.n)
	}
	return freed, nil
}

// OnPressure has a budget's requests for memory met from a tier, as by [Budget.OnPressure]; remove ends it.
func (s *Store) OnPressure(b *Budget, t Tier, priority int) (remove func()) {
	return b.OnPressure(priority, func(need int64) { _, _ = s.MakeRoom(t, need) })
}

// victim returns the item of a tier that is needed last among those that may be moved, marked as moving; one that is still written
// only if there is no other. If there is none it
// waits for one that someone else moves down, and returns its size; such a move depends on lower tiers alone, so that nobody
// waits in a circle.
func (s *Store) victim(t Tier) (best *Item, sunk int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var writing *Item
	var other *sinking
	last := func(best, it *Item) *Item {
		if best == nil || it.next > best.next || it.next == best.next && it.order > best.order {
			return it
		}
		return best
	}
	for it := range s.items {
		switch {
		case it.tier != t || it.n == 0:
		case it.sinking != nil:
			other = it.sinking
		case it.moving || it.users > 0:
		case it.ready != nil && !it.ready.Done():
			writing = last(writing, it)
		default:
			best = last(best, it)
		}
	}
	if best == nil {
		best = writing
	}
	if best != nil {
		best.moving, best.sinking = true, new(sinking)
		return best, 0
	}
	if other == nil {
		return nil, 0
	}
	for !other.ended {
		s.moved.Wait()
	}
	return nil, other.freed
}

// down moves an item that is marked as moving to the next tier that has room or makes some. It reports false if none has.
func (s *Store) down(it *Item) (ok bool, err error) {
	defer s.sunk(it, it.tier)
	if err := it.written(context.Background()); err != nil {
		return false, err
	}
	for t := it.tier + 1; t < TierDisk; t++ {
		if s.levels[t] == nil {
			continue
		}
		b, err := s.room(t, it.n)
		if err != nil {
			return false, err
		}
		if b == nil {
			continue
		}
		if err := s.move(it, b); err != nil {
			return false, err
		}
		return true, nil
	}
	if s.dir == "" {
		return false, nil
	}
	return true, s.toDisk(it)
}

// sunk says that a move down of an item that was in a tier has ended, and that it is not moving any more.
func (s *Store) sunk(it *Item, from Tier) {
	s.mu.Lock()
	if it.tier != from {
		it.sinking.freed = int64(it.n)
	}
	it.sinking.ended, it.sinking = true, nil
	s.mu.Unlock()
	s.settle(it)
}

// settle says that an item is not moving any more.
func (s *Store) settle(it *Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it.moving = false
	s.moved.Broadcast()
}

// written waits for the work that writes an item, which someone has marked as moving.
func (it *Item) written(ctx context.Context) error {
	if it.ready == nil {
		return nil
	}
	if err := it.ready.Wait(ctx); err != nil {
		return err
	}
	it.ready = nil
	return nil
}

// move copies an item to b, which it takes, and gives its old buffer back.
func (s *Store) move(it *Item, b *Buffer) error {
	start := time.Now()
	if err := s.transfer(b, it.buf); err != nil {
		b.Release()
		s.unreserve(b.tier, it.n)
		return fmt.Errorf("mem: moving %d bytes from tier %s to %s: %w", it.n, it.tier, b.tier, err)
	}
	old := it.buf
	s.place(it, b.tier, b, start)
	old.Release()
	return nil
}

// place says where an item is now.
func (s *Store) place(it *Item, t Tier, b *Buffer, start time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.stats.Moves[it.tier][t]
	m.Items++
	m.Bytes += int64(it.n)
	m.Time += time.Since(start)
	s.hold(it.tier, it.n, -1)
	s.hold(t, it.n, 1)
	if l := s.levels[it.tier]; l != nil {
		l.held -= int64(it.n) // and was reserved where it goes
	}
	it.tier, it.buf = t, b
}

func (s *Store) transfer(dst, src *Buffer) error {
	if dst.tier.Addressable() && src.tier.Addressable() {
		copy(dst.Bytes(), src.Bytes())
		return nil
	}
	return s.copy(dst, src)
}

// Get brings an item to a tier and returns its buffer, which is the item's: it may be read until [Item.Done], and the
// item is not moved meanwhile. If ctx ends before the work that writes it, its cause is returned.
func (it *Item) Get(ctx context.Context, t Tier) (*Buffer, error) {
	s := it.s
	s.mu.Lock()
	for it.moving {
		s.moved.Wait()
	}
	if it.gone {
		s.mu.Unlock()
		return nil, fmt.Errorf("mem: an item of a store that was dropped: %w", ErrNoItem)
	}
	if it.users > 0 && it.tier != t {
		s.mu.Unlock()
		return nil, fmt.Errorf("mem: an item is in use in tier %s and cannot be moved to %s", it.tier, t)
	}
	if it.users > 0 {
		it.users++
		defer s.mu.Unlock()
		return it.buf, nil
	}
	it.moving = true
	s.mu.Unlock()
	defer s.settle(it)
	if err := it.written(ctx); err != nil {
		return nil, err
	}
	if it.tier != t {
		if s.levels[t] == nil {
			return nil, fmt.Errorf("mem: a store without the tier %s", t)
		}
		b, err := s.room(t, it.n)
		if err != nil {
			return nil, err
		}
		if b == nil {
			return nil, &NoMemoryError{Need: int64(it.n), Limit: s.levels[t].Limit, Cause: fmt.Errorf("an item of a store is needed in tier %s", t)}
		}
		if it.tier == TierDisk {
			err = s.fromDisk(it, b)
		} else {
			err = s.move(it, b)
		}
		if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	it.users++
	s.mu.Unlock()
	return it.buf, nil
}

// ErrNoItem is wrapped when an item is used that was dropped.
var ErrNoItem = errors.New("it is not there any more")

// Done says that the buffer of the last Get is not used any more. Every Get that succeeds needs one.
func (it *Item) Done() {
	it.s.mu.Lock()
	defer it.s.mu.Unlock()
	it.users--
	it.s.moved.Broadcast()
}

// Read copies the bytes of the item from from on to dst, an addressable buffer that they fill, and leaves the item where it is. If
// ctx ends before the work that writes the item, its cause is returned.
func (it *Item) Read(ctx context.Context, dst *Buffer, from int) error {
	s, n := it.s, dst.Len()
	if from < 0 || n > it.n-from {
		return fmt.Errorf("mem: bytes [%d, %d) of an item of %d", from, from+n, it.n)
	}
	s.mu.Lock()
	for it.moving {
		s.moved.Wait()
	}
	if it.gone {
		s.mu.Unlock()
		return fmt.Errorf("mem: an item of a store that was dropped: %w", ErrNoItem)
	}
	it.moving = true
	s.mu.Unlock()
	defer s.settle(it)
	if err := it.written(ctx); err != nil {
		return err
	}
	start := time.Now()
	if err := s.read(it, dst, from); err != nil {
		return fmt.Errorf("mem: reading %d bytes from tier %s: %w", n, it.tier, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.stats.Reads[it.tier]
	r.Items++
	r.Bytes += int64(n)
	r.Time += time.Since(start)
	return nil
}

// read is Read of an item that is marked as moving.
func (s *Store) read(it *Item, dst *Buffer, from int) error {
	if it.tier == TierDisk {
		return readFile(it.file, dst.Bytes(), int64(from))
	}
	part, err := it.buf.Slice(from, from+dst.Len())
	if err != nil {
		return err
	}
	defer part.Release()
	return s.transfer(dst, part)
}

// Expect says anew when the item is needed.
func (it *Item) Expect(next int64) {
	it.s.mu.Lock()
	defer it.s.mu.Unlock()
	it.next = next
}

// Tier returns where the item is at this moment.
func (it *Item) Tier() Tier {
	it.s.mu.Lock()
	defer it.s.mu.Unlock()
	return it.tier
}

// Len returns the item's length in bytes.
func (it *Item) Len() int { return it.n }

// Drop gives up the item and what it holds, once nobody uses it and the work that writes it is done. It may be called again.
func (it *Item) Drop() {
	s := it.s
	s.mu.Lock()
	for it.moving || it.users > 0 {
		s.moved.Wait()
	}
	if it.gone {
		s.mu.Unlock()
		return
	}
	it.gone = true
	delete(s.items, it)
	s.hold(it.tier, it.n, -1)
	if l := s.levels[it.tier]; l != nil {
		l.held -= int64(it.n)
	}
	s.mu.Unlock()
	_ = it.written(context.Background()) // who cares for its error has waited for it
	it.buf.Release()
	it.buf = nil
	it.removeFile()
}

// Stats returns a snapshot.
func (s *Store) Stats() StoreStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close drops all items, and says how many there were.
func (s *Store) Close() (dropped int) {
	s.mu.Lock()
	all := make([]*Item, 0, len(s.items))
	for it := range s.items {
		all = append(all, it)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *Item) int { return int(a.order) - int(b.order) })
	for _, it := range all {
		it.Drop()
	}
	return len(all)
}

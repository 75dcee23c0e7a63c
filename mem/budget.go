package mem

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
)

// Purpose names what memory is held for, for instance "read" or "shuffle". Budgets count bytes by it.
type Purpose string

// Unlimited is the limit of a budget that only counts.
const Unlimited = math.MaxInt64

// Budget bounds the bytes held at one time. It hands out reservations in the order they were asked
// for, so a large request is not starved by small ones. All methods are safe for concurrent use.
type Budget struct {
	limit int64

	mu        sync.Mutex
	used      int64
	peak      int64
	purposes  map[Purpose]*PurposeStats
	waiting   []*waiter
	pressure  []*pressureFunc
	spillings int64
	charged   int64 // by Charge
}

// PurposeStats counts the bytes held for one purpose.
type PurposeStats struct {
	Used int64 // bytes held now
	Peak int64 // the most held at one time
}

// BudgetStats is a snapshot of a [Budget].
type BudgetStats struct {
	Limit     int64                    // bytes, or [Unlimited]
	Used      int64                    // bytes held now
	Peak      int64                    // the most held at one time
	Waiting   int                      // requests that wait for room
	Pressured int64                    // how often holders were asked to give memory back
	Purposes  map[Purpose]PurposeStats // by what it is held for
}

type waiter struct {
	n     int64
	ready chan struct{} // closed once n was added to used on the waiter's behalf
}

type pressureFunc struct {
	priority int
	f        func(need int64)
}

// NewBudget returns a budget of limit bytes; limit <= 0 means [Unlimited].
func NewBudget(limit int64) *Budget {
	if limit <= 0 {
		limit = Unlimited
	}
	return &Budget{limit: limit, purposes: make(map[Purpose]*PurposeStats)}
}

// Limit returns the limit in bytes, or [Unlimited].
func (b *Budget) Limit() int64 { return b.limit }

// Free returns how many bytes could be reserved at this moment without asking anyone to spill.
func (b *Budget) Free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.limit-b.used)
}

// Stats returns a snapshot.
func (b *Budget) Stats() BudgetStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BudgetStats{
		Limit: b.limit, Used: b.used, Peak: b.peak, Waiting: len(b.waiting), Pressured: b.spillings,
		Purposes: make(map[Purpose]PurposeStats, len(b.purposes)),
	}
	for p, v := range maps.All(b.purposes) {
		s.Purposes[p] = *v
	}
	return s
}

// Short reports whether requests wait for room, or more is held than the limit. A holder looks at it whenever it
// gets something that it could release, since it is asked only once for each request: see [Budget.OnPressure].
func (b *Budget) Short() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0 || b.used > b.limit
}

// OnPressure registers f to be asked for memory when a reservation does not fit. f must release at
// least some of need bytes held against this budget if it can; it is called without locks held, possibly
// from several goroutines, and must not reserve from the same budget. Higher priorities are asked first.
// The returned function removes the registration.
//
// A request is queued before holders are asked. So a holder that gets something to release only after it was
// asked, and then looks at [Budget.Short], misses no request.
func (b *Budget) OnPressure(priority int, f func(need int64)) (remove func()) {
	p := &pressureFunc{priority, f}
	b.mu.Lock()
	defer b.mu.Unlock()
	// A fresh slice each time, so that press can walk an old one without the lock.
	next := append(slices.Clone(b.pressure), p)
	slices.SortStableFunc(next, func(x, y *pressureFunc) int { return cmp.Compare(y.priority, x.priority) })
	b.pressure = next
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pressure = slices.DeleteFunc(slices.Clone(b.pressure), func(q *pressureFunc) bool { return q == p })
	}
}

// TryReserve reserves n bytes if there is room now, without spilling or waiting.
func (b *Budget) TryReserve(p Purpose, n int64) (*Reservation, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 || n > b.limit-b.used {
		return nil, false
	}
	b.add(p, n)
	return &Reservation{budget: b, purpose: p, n: n}, true
}

// Charge counts n bytes that are held already, beyond the limit if need be, and gives n bytes back if n is
// negative. It serves bookkeeping that cannot wait; while the limit is exceeded [Budget.Short] is true and nothing
// else is reserved, so whoever charges must be able to release something else or to stop. It returns all that
// is charged in this way.
func (b *Budget) Charge(p Purpose, n int64) (all int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(p, n)
	b.charged += n
	if n < 0 {
		b.grant()
	}
	return b.charged
}

// Reserve reserves n bytes. If there is no room it asks holders to spill and then waits until enough is
// released or ctx ends. A request larger than the limit can never be met and fails at once with a
// [NoMemoryError].
//
// A goroutine that already holds a reservation and asks for another can deadlock with one like it; ask
// for everything at once, or use [Reservation.TryGrow].
func (b *Budget) Reserve(ctx context.Context, p Purpose, n int64) (*Reservation, error) {
	if n > b.limit {
		return nil, &NoMemoryError{Purpose: p, Need: n, Limit: b.limit}
	}
	if r, ok := b.TryReserve(p, n); ok {
		return r, nil
	}
	// The request is in the queue before anyone is asked. A holder that has nothing to give when it is asked, and
	// gets something later, therefore sees by Short that someone waits: between them nothing can be missed.
	w := &waiter{n: n, ready: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, w)
	b.grant()
	b.mu.Unlock()
	b.press(func() int64 { return b.missing(w) })
	select {
	case <-w.ready:
	case <-ctx.Done():
		b.mu.Lock()
		if i := slices.Index(b.waiting, w); i >= 0 {
			b.waiting = slices.Delete(b.waiting, i, i+1)
			b.grant()
			b.mu.Unlock()
			return nil, context.Cause(ctx)
		}
		b.mu.Unlock() // granted in the meantime: keep it, the caller sees ctx soon enough
	}
	b.mu.Lock()
	b.count(p, n)
	b.mu.Unlock()
	return &Reservation{budget: b, purpose: p, n: n}, nil
}

// missing returns how many bytes have to be released before w is served: what it and all before it ask for. It is
// 0 once w was served. The lock is held.
func (b *Budget) missing(w *waiter) int64 {
	need := b.used - b.limit
	for _, v := range b.waiting {
		if need += v.n; v == w {
			return need
		}
	}
	return 0
}

// press asks the registered holders, one after another, to release memory while missing says that some is. missing
// is called with the lock held.
func (b *Budget) press(missing func() int64) {
	b.mu.Lock()
	fs, need := b.pressure, missing()
	if need > 0 {
		b.spillings++
	}
	b.mu.Unlock()
	for _, p := range fs {
		if need <= 0 {
			return
		}
		p.f(need)
		b.mu.Lock()
		need = missing()
		b.mu.Unlock()
	}
}

// add takes n bytes for p. The lock is held.
func (b *Budget) add(p Purpose, n int64) {
	b.used += n
	b.peak = max(b.peak, b.used)
	b.count(p, n)
}

func (b *Budget) count(p Purpose, n int64) {
	s := b.purposes[p]
	if s == nil {
		s = new(PurposeStats)
		b.purposes[p] = s
	}
	s.Used += n
	s.Peak = max(s.Peak, s.Used)
}

// fits reports whether the first request in line can be served. If nothing is held but what was charged, it is: nobody
// could release anything for it. The lock is held.
func (b *Budget) fits(n int64) bool {
	return n <= b.limit-b.used || b.used <= b.charged && n <= b.limit
}

// grant serves waiting requests in order while they fit. The lock is held.
func (b *Budget) grant() {
	for len(b.waiting) > 0 && b.fits(b.waiting[0].n) {
		w := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.used += w.n
		b.peak = max(b.peak, b.used)
		close(w.ready)
	}
}

func (b *Budget) release(p Purpose, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.count(p, -n)
	b.grant()
}

// Reservation is the right to hold a number of bytes. One goroutine owns it at a time.
type Reservation struct {
	budget  *Budget
	purpose Purpose
	n       int64
}

// Size returns the bytes reserved and not yet handed to buffers.
func (r *Reservation) Size() int64 {
	if r == nil {
		return 0
	}
	return r.n
}

// TryGrow adds n bytes if there is room now, without spilling or waiting.
func (r *Reservation) TryGrow(n int64) bool {
	more, ok := r.budget.TryReserve(r.purpose, n)
	if ok {
		r.n += more.n
	}
	return ok
}

// Shrink gives n bytes back, or all of them if fewer are left.
func (r *Reservation) Shrink(n int64) {
	n = min(n, r.n)
	r.n -= n
	r.budget.release(r.purpose, n)
}

// Release gives everything back that was not handed to buffers. It may be called again and on nil.
func (r *Reservation) Release() {
	if r == nil || r.n == 0 {
		return
	}
	r.budget.release(r.purpose, r.n)
	r.n = 0
}

// Alloc makes a buffer of n bytes with a and pays for it from the reservation. The bytes go back to the
// budget, not to the reservation, when the buffer is freed. It fails if fewer than n bytes are left.
func (r *Reservation) Alloc(a Allocator, n int) (*Buffer, error) {
	if int64(n) > r.n {
		return nil, &NoMemoryError{Purpose: r.purpose, Need: int64(n), Limit: r.n}
	}
	inner, err := a.Alloc(n)
	if err != nil {
		return nil, err
	}
	r.n -= int64(n)
	return charged(inner, r.budget, r.purpose), nil
}

// charged wraps inner so that freeing it also releases its length from budget.
func charged(inner *Buffer, budget *Budget, p Purpose) *Buffer {
	n := int64(inner.Len())
	free := func(*Buffer) {
		inner.Release()
		budget.release(p, n)
	}
	if inner.tier == TierDevice {
		return NewDeviceBuffer(inner.addr, inner.n, free)
	}
	return NewHostBuffer(inner.tier, inner.data, free)
}

// Within returns an allocator that counts every buffer made by inner against the budget under p. When a
// buffer does not fit it asks holders to spill; if that is not enough, Alloc fails with a
// [NoMemoryError] rather than wait, because whoever allocates in the middle of work holds memory that
// others wait for.
func (b *Budget) Within(p Purpose, inner Allocator) Allocator {
	return &within{budget: b, purpose: p, inner: inner}
}

type within struct {
	budget  *Budget
	purpose Purpose
	inner   Allocator
}

func (w *within) Tier() Tier { return w.inner.Tier() }

func (w *within) Alloc(n int) (*Buffer, error) {
	take := func() bool {
		w.budget.mu.Lock()
		defer w.budget.mu.Unlock()
		if int64(n) > w.budget.limit-w.budget.used {
			return false
		}
		w.budget.add(w.purpose, int64(n))
		return true
	}
	if !take() {
		w.budget.press(func() int64 { return int64(n) + w.budget.used - w.budget.limit })
		if !take() {
			return nil, &NoMemoryError{Purpose: w.purpose, Need: int64(n), Limit: w.budget.limit}
		}
	}
	b, err := w.inner.Alloc(n)
	if err != nil {
		w.budget.release(w.purpose, int64(n))
		return nil, err
	}
	return charged(b, w.budget, w.purpose), nil
}

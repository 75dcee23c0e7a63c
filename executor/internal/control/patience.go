package control

import (
	"sync"
	"time"
)

// patience is used up when as much time has passed while this process ran. Whoever was stopped, with its machine or by a scheduler
// that lets another job go first, cannot know what the others said meanwhile, who were most likely stopped with it: it has to listen
// first. So time goes by in quarters, and each counts once, however long it took.
type patience struct {
	mu      sync.Mutex
	timer   *time.Timer
	quarter time.Duration
	due     time.Time // when the next is over
	left    int       // quarters; 0 when nobody waits
	out     func()
}

const quarters = 4

// newPatience returns one that calls out, with none of its own calls under way, when it is used up.
func newPatience(out func()) *patience {
	p := &patience{out: out}
	p.timer = time.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	return p
}

// begin starts to wait for as long as d.
func (p *patience) begin(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quarter, p.left = max(d/quarters, 1), quarters
	p.wait()
}

// wait sets the timer for the next quarter. The lock is held.
func (p *patience) wait() {
	p.due = time.Now().Add(p.quarter)
	p.timer.Reset(p.quarter)
}

// end stops to wait. After it out is not called.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = 0
	p.timer.Stop()
}

func (p *patience) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || time.Now().Before(p.due) {
		return // the timer went off as it was stopped or set anew
	}
	if p.left--; p.left == 0 {
		p.out()
	} else {
		p.wait()
	}
}

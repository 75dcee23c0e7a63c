package executor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// children are the processes of actors that rank 0 of an isolated job starts, watches and replaces.
type children struct {
	j   *Job
	cfg Isolation
	all sync.WaitGroup

	closing chan struct{} // closed when nobody is replaced any more
	once    sync.Once
	stop    func() // watching memory
	peak    atomic.Int64

	mu     sync.Mutex
	next   uint64
	live   map[int]*child    // by rank
	by     map[uint64]*child // by number, until their end is accounted for
	warned bool
}

// child is one process.
type child struct {
	rank   int
	number uint64
	cmd    *exec.Cmd
	output *childOutput
	done   chan struct{} // closed when it has ended
	why    string        // then: how

	worked atomic.Bool // it has finished a task
	joined atomic.Bool
	killed atomic.Bool // by this process
	late   atomic.Bool // because it did not join
}

const (
	// childGrace is how long a process whose connection was closed has to end, before it is killed.
	childGrace = 2 * time.Second
	firstRest  = 50 * time.Millisecond
	longRest   = 5 * time.Second
)

func newChildren(j *Job, cfg Isolation) *children {
	return &children{
		j: j, cfg: cfg, closing: make(chan struct{}), live: make(map[int]*child), by: make(map[uint64]*child),
	}
}

// start starts all. h is what they are told, but for what differs.
func (c *children) start(h handover) {
	c.stop = every(rssInterval, c.look)
	for rank := 1; rank < h.Size; rank++ {
		h := h
		h.Rank = rank
		if n := len(c.cfg.Devices); n > 0 {
			h.Device = &c.cfg.Devices[(rank-1)%n]
		}
		c.all.Go(func() { c.keep(h) })
	}
}

// keep sees to it that a rank has a process.
func (c *children) keep(h handover) {
	// Where the kernel ends a process with the thread that started it, the thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	deaths, rest := 0, time.Duration(0)
	for {
		p := c.run(h)
		if c.ending() {
			return
		}
		if p.worked.Load() {
			deaths, rest = 0, 0
		}
		if deaths++; deaths >= c.cfg.MaxDeaths {
			c.j.down(fmt.Errorf("executor: the process of actor %d ended %d times in a row without finishing a task, at last: %s; "+
				"run again to go on from what was finished, when that is mended", h.Rank, deaths, p.why))
			return
		}
		if !p.joined.Load() { // or whoever loses the connection says so
			c.j.note("the process of actor %d did not get to work: %s; another takes its place", h.Rank, p.why)
		}
		select {
		case <-time.After(rest):
		case <-c.closing:
			return
		case <-c.j.ctx.Done():
			return
		}
		rest = min(max(2*rest, firstRest), longRest)
	}
}

// ending reports whether the end of a process is nothing to worry about any more.
func (c *children) ending() bool {
	select {
	case <-c.closing:
		return true
	default:
		return c.j.ctx.Err() != nil
	}
}

// run starts a process and returns when it has ended.
func (c *children) run(h handover) *child {
	p := &child{rank: h.Rank, output: &childOutput{}, done: make(chan struct{})}
	c.mu.Lock()
	c.next++
	p.number = c.next
	c.live[p.rank], c.by[p.number] = p, p
	c.mu.Unlock()
	defer close(p.done)
	p.output.tell = func(line string) {
		if !c.ending() {
			c.j.note("actor %d: %s", p.rank, line)
		}
	}
	cmd := c.cfg.Command(h.Rank)
	base := cmd.Env
	if base == nil {
		base = cmd.Environ()
	}
	environ, warnings := ActorEnviron(base, h.Device, c.cfg.Environ)
	c.warn(warnings)
	h.Process = p.number
	told, err := json.Marshal(h)
	if err != nil {
		p.why = err.Error()
		return p
	}
	cmd.Env = append(environ, actorVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(told), p.output, p.output
	cmd.WaitDelay = childGrace // for what it has started itself, and left
	endWithParent(cmd)
	if c.ending() {
		return p
	}
	if err := cmd.Start(); err != nil {
		p.why = "it cannot be started: " + err.Error()
		return p
	}
	c.mu.Lock()
	p.cmd = cmd
	c.mu.Unlock()
	if c.ending() { // which may have begun without it
		c.kill(p)
	}
	// One that is stopped before it has joined would not be missed otherwise.
	patience := time.AfterFunc(2*h.Silence, func() {
		if !p.joined.Load() {
			p.late.Store(true)
			c.kill(p)
		}
	})
	err = cmd.Wait()
	patience.Stop()
	if p.late.Load() {
		p.why = fmt.Sprintf("it had not joined after %v, and was killed", 2*h.Silence)
	}
	p.output.end()
	c.mu.Lock()
	p.cmd = nil // its number may be that of another process soon
	c.mu.Unlock()
	if p.why == "" {
		p.why = p.ended(cmd.ProcessState, err)
	}
	return p
}

// warn says once what the environment of actors has not as it was asked for.
func (c *children) warn(warnings []string) {
	c.mu.Lock()
	said := c.warned
	c.warned = true
	c.mu.Unlock()
	for _, w := range warnings {
		if !said {
			c.j.note("%s", w)
		}
	}
}

// kill kills a process, if it runs.
func (c *children) kill(p *child) {
	c.mu.Lock()
	cmd := p.cmd
	c.mu.Unlock()
	if cmd != nil {
		p.killed.Store(true)
		_ = cmd.Process.Kill() // or it has ended
	}
}

// expects reports whether a process that calls is the present one of its rank, and remembers that it has joined.
func (c *children) expects(rank int, number uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.live[rank]
	if p == nil || p.number != number {
		return false
	}
	p.joined.Store(true)
	return true
}

// worked is told that a process has finished a task.
func (c *children) worked(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.by[l.process]; p != nil {
		p.worked.Store(true)
	}
}

// lost is told that the connection to a process is gone, as text says. It returns when the process has ended, with the reason. One
// that was silent is killed at once.
func (c *children) lost(l *link, text string, silent bool) string {
	c.mu.Lock()
	p := c.by[l.process]
	delete(c.by, l.process)
	c.mu.Unlock()
	if p == nil {
		return text
	}
	if !silent {
		select {
		case <-p.done:
		case <-time.After(childGrace):
		}
	}
	c.kill(p)
	<-p.done
	switch {
	case l.words != "":
		return "it stopped: " + l.words
	case silent || p.killed.Load() && p.why == "":
		return text + ", and was killed"
	}
	return p.why
}

// settle says that nobody is replaced any more.
func (c *children) settle() {
	if c != nil {
		c.once.Do(func() { close(c.closing) })
	}
}

// end returns when all processes have ended. They get a moment to do so by themselves.
func (c *children) end() {
	if c == nil {
		return
	}
	c.settle()
	c.killAll(func(p *child) bool { return !p.joined.Load() }) // they would look for this process for a while
	t := time.AfterFunc(childGrace, func() { c.killAll(func(*child) bool { return true }) })
	c.all.Wait()
	t.Stop()
	c.stop()
}

// killAll kills the processes that which chooses.
func (c *children) killAll(which func(*child) bool) {
	c.mu.Lock()
	live := slices.Collect(maps.Values(c.live))
	c.mu.Unlock()
	for _, p := range live {
		if which(p) {
			c.kill(p)
		}
	}
}

// resident is the sum of the resident sets of this process and of those of its actors, in bytes. What they share counts for each.
func (c *children) resident() int64 {
	sum := residentBytes()
	if c == nil || sum == 0 {
		return sum
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.live {
		if p.cmd != nil {
			sum += residentOf(p.cmd.Process.Pid)
		}
	}
	return sum
}

// look takes the memory of all processes into the peak.
func (c *children) look() { c.peak.Store(max(c.peak.Load(), c.resident())) }

// signalOf is the name of the signal that ended a process, or "".
func signalOf(st *os.ProcessState) string {
	if st == nil {
		return ""
	}
	w, ok := st.Sys().(syscall.WaitStatus)
	if !ok || !w.Signaled() {
		return ""
	}
	return signalName(w.Signal())
}

package executor

import (
	"path/filepath"
	"sync"
	"time"
)

// pending is a finished attempt on its way into the log.
type pending struct {
	a       *Attempt
	seq     int // of the task in its stage
	results []Task
	input   inputHash
	round   int    // of a shuffle stage, if it takes several
	g       *grant // of a plain stage: that this was attempt at of
	at      int
	weight  int64
	err     error
}

const (
	// commitWindow bounds what is finished and not committed, per stage: so many tasks, or so many divided by
	// fileWeight files. The files count more because each holds a descriptor open.
	commitWindow = 4096
	fileWeight   = 32
	// syncers is how many files are synced at once. File systems put syncs that overlap into one write
	// of their journal; on ext4, 16 at once take less than a third of the time of one after another.
	syncers = 16
)

// committer makes finished attempts of one stage permanent, in groups: whatever has queued up while the
// last group was being synced is the next. So a lone task waits for no one, and thousands of small ones share
// the cost of syncing.
type committer struct {
	run   *stageRun
	queue chan *pending
	done  chan struct{}
	sink  func(seq int, results []Task)

	mu   sync.Mutex
	room sync.Cond
	used int64

	failed bool
}

func newCommitter(run *stageRun, sink func(seq int, results []Task)) *committer {
	// With a weight of at least 1 per task the queue never holds more than the window, so only submit waits.
	c := &committer{run: run, queue: make(chan *pending, commitWindow), done: make(chan struct{}), sink: sink}
	c.room.L = &c.mu
	go c.loop()
	return c
}

// submit hands over a finished attempt and waits while too much is under way.
func (c *committer) submit(p *pending) {
	p.weight = min(1+fileWeight*int64(len(p.a.m.files)), commitWindow)
	c.mu.Lock()
	for c.used+p.weight > commitWindow {
		c.room.Wait()
	}
	c.used += p.weight
	c.mu.Unlock()
	c.queue <- p
}

// drain waits until all that was submitted so far is committed or given up.
func (c *committer) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.used > 0 {
		c.room.Wait()
	}
}

// close waits until all that was submitted is committed or given up.
func (c *committer) close() {
	close(c.queue)
	<-c.done
}

func (c *committer) loop() {
	defer close(c.done)
	var group []*pending
	for p := range c.queue {
		group = append(group[:0], p)
	more:
		for len(group) < commitWindow {
			select {
			case p, ok := <-c.queue:
				if !ok {
					break more
				}
				group = append(group, p)
			default:
				break more
			}
		}
		c.commit(group)
		clear(group)
	}
}

// commit makes one group permanent: files synced, renamed, their folders synced, then the log. A task whose
// files fail is left out; nothing more is committed after a failure.
func (c *committer) commit(group []*pending) {
	start := time.Now()
	c.settle(group)
	var weight int64
	for _, p := range group {
		weight += p.weight
		if p.err != nil {
			p.a.m.discard()
			if !c.failed {
				c.failed = true
				c.run.fail(c.run.taskError(p.a.m.env, p.a.m.task, p.a.m.number, 0, p.err))
			}
		} else {
			c.run.committed(p)
			c.sink(p.seq, p.results)
		}
	}
	c.run.commitNS.Add(int64(time.Since(start)))
	c.mu.Lock()
	c.used -= weight
	c.room.Broadcast()
	c.mu.Unlock()
}

func (c *committer) settle(group []*pending) {
	failAll := func(err error) {
		for _, p := range group {
			if p.err == nil {
				p.err = err
			}
		}
	}
	if c.failed {
		failAll(errGivenUp)
		return
	}
	files := c.syncFiles(group)
	dirs := make(map[string]*pending)
	for _, p := range group {
		for _, f := range p.a.m.files {
			if p.err == nil {
				if p.err = f.rename(); p.err == nil && f.placed && c.run.work != nil {
					c.run.work.placed(f.temp)
				}
				if !f.behind {
					dirs[filepath.Dir(f.path)] = p
				}
			}
		}
		if p.err == nil {
			p.err = p.a.m.syncBarrier()
		}
		if err := p.a.m.closeBarrier(); err != nil && p.err == nil {
			p.err = ioError("closing a barrier", err)
		}
	}
	for dir, p := range dirs {
		if err := c.run.e.fs.SyncDir(dir); err != nil {
			p.err = ioError("syncing a folder", err)
			failAll(p.err)
			return
		}
	}
	if c.run.work == nil {
		return
	}
	commits := make([]*commit, 0, len(group))
	for _, p := range group {
		if p.err == nil {
			commits = append(commits, p.commit())
		}
	}
	// A task without files loses nothing but time if the machine stops before its commit is on disk: it
	// runs again. So only files are worth a sync of the log; the end of the stage syncs the rest.
	if err := c.run.work.commitAll(commits, files > 0); err != nil {
		failAll(err)
	}
}

// syncFiles syncs the files of a group and returns their number.
func (c *committer) syncFiles(group []*pending) (files int) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, syncers)
	for _, p := range group {
		if len(p.a.m.files) == 0 {
			continue
		}
		files += len(p.a.m.files)
		slots <- struct{}{}
		wg.Go(func() {
			p.err = p.a.m.syncAll()
			<-slots
		})
	}
	wg.Wait()
	return files
}

func (p *pending) commit() *commit {
	m := p.a.m
	c := &commit{
		stage: m.run.name, task: m.task.ID, epoch: m.env.Epoch, attempt: m.number,
		input: p.input, results: p.results, counters: m.counts,
	}
	for _, f := range m.files {
		c.files = append(c.files, f.info())
	}
	return c
}

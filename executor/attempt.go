package executor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Meter is what every attempt can ask for and report, whether it processes, inserts or extracts. Its
// methods are safe for concurrent use, until the call that was given the attempt returns.
type Meter struct{ m *meter }

type meter struct {
	run    *stageRun
	env    *Env
	task   Task
	number uint32

	life   *life // of the grant that the attempt is of; nil if nobody looks
	mu     sync.Mutex
	counts []counter
	spent  spent
	held   []*mem.Reservation
	files  []*File
	ended  bool

	barrier vfs.Barrier // syncs the files that are behind it; nil if there are none
}

// Task returns the task at hand. For [ShuffleActor].Extract it is a task named after the partition.
func (m Meter) Task() Task { return m.m.task }

// Number is the attempt's number, from 0 in each run.
func (m Meter) Number() uint32 { return m.m.number }

// Epoch is [Env].Epoch.
func (m Meter) Epoch() uint32 { return m.m.env.Epoch }

// Reserve waits for n bytes of the budget. What is left of the reservation when the attempt ends is given
// back then, unless the caller released it before. See [mem.Budget.Reserve] for errors and deadlocks.
func (m Meter) Reserve(ctx context.Context, p mem.Purpose, n int64) (*mem.Reservation, error) {
	defer m.m.life.wait()()
	defer m.m.wait(time.Now())
	r, err := m.m.env.Budget.Reserve(ctx, p, n)
	if err != nil {
		return nil, err
	}
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if m.m.ended {
		r.Release()
		return nil, m.errorf("the attempt has ended")
	}
	m.m.held = append(m.m.held, r)
	return r, nil
}

// Count adds n to the counter name of this attempt. The counters of attempts that commit are summed per stage
// into [StageStats].Counters, also when the task is reused by a later run. Call it per batch, not per row.
func (m Meter) Count(name string, n int64) {
	m.m.life.sign()
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if !m.m.ended {
		m.m.counts = addCounter(m.m.counts, counter{name, n})
	}
}

// Progress says that units more (bytes, or whatever the stage counts) are done.
func (m Meter) Progress(units int64) {
	m.m.life.sign()
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if !m.m.ended {
		m.m.spent.units += units
		m.m.run.units.Add(units)
	}
}

// ProgressRows says that rows more are done: the count beside the bytes of [Meter.Progress], for people.
func (m Meter) ProgressRows(rows int64) {
	m.m.life.sign()
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if !m.m.ended {
		m.m.spent.rows += rows
		m.m.run.rows.Add(rows)
	}
}

func (m Meter) errorf(format string, args ...any) error {
	return fmt.Errorf("executor: "+format, args...) // a TaskError says where
}

// wait counts the time since start as waiting rather than computing.
func (m *meter) wait(start time.Time) {
	d := time.Since(start)
	m.mu.Lock()
	m.spent.wait += d
	m.mu.Unlock()
}

// end is called when the actor is done with the attempt. It gives reservations back and returns why the
// attempt cannot commit, if so.
func (m *meter) end() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for _, r := range m.held {
		r.Release()
	}
	m.held = nil
	for _, f := range m.files {
		if f.err != nil {
			return f.err
		}
		if !f.closed {
			return fmt.Errorf("file %s was not closed; close it before returning", f.name)
		}
	}
	return nil
}

// maxSingly is how many files of one attempt are synced one by one, each with its descriptor open until then.
// A task may make thousands more: those are closed at once and synced together by a barrier where the file
// system has one, and otherwise synced when they are closed.
const maxSingly = 32

// many prepares a file of an attempt that has many. The lock is held.
func (m *meter) many(f *File) {
	if len(m.files) < maxSingly {
		return
	}
	f.early = true
	dir := filepath.Dir(f.temp)
	if m.barrier == nil {
		b, err := m.run.e.fs.OpenBarrier(dir)
		if err != nil {
			return
		}
		m.barrier = b
	}
	f.behind = m.barrier.Covers(dir)
}

// discard undoes what the attempt has done. It is called after end. What cannot be removed now is removed
// when the work folder is opened next.
func (m *meter) discard() {
	m.run.units.Add(-m.spent.units)
	for _, f := range m.files {
		f.discard()
	}
	_ = m.closeBarrier()
}

// syncAll puts the files on disk.
func (m *meter) syncAll() error {
	if len(m.files) > 0 {
		defer m.wrote(time.Now())
	}
	for _, f := range m.files {
		if err := f.sync(); err != nil {
			return err
		}
	}
	return m.syncBarrier()
}

// syncBarrier puts on disk what is behind the barrier, if there is one.
func (m *meter) syncBarrier() error {
	if m.barrier == nil {
		return nil
	}
	if err := m.barrier.Sync(); err != nil {
		return ioError(fmt.Sprintf("syncing %d files", len(m.files)), err)
	}
	return nil
}

func (m *meter) closeBarrier() error {
	if m.barrier == nil {
		return nil
	}
	err := m.barrier.Close()
	m.barrier = nil
	return err
}

// Attempt is one try of one task, which may create files. Its methods are safe for concurrent use.
type Attempt struct{ Meter }

// Create makes a file in the work folder, called name among the files of this attempt: at most 96 of the
// characters allowed in [Task.ID]. Once the attempt has committed, [Work.OpenCommitted] opens it by
// [File.Name].
func (a *Attempt) Create(name string) (*File, error) {
	w := a.m.run.work
	if w == nil {
		return nil, a.errorf("creating file %q: there is no work folder; set Config.Work", name)
	}
	if err := checkName(name, maxFileName); err != nil {
		return nil, a.errorf("creating file %q: %w", name, err)
	}
	dir, err := w.stageDir(a.m.run.name)
	if err != nil {
		return nil, err
	}
	base := attemptFile(a.m.task.ID, a.m.env.Epoch, a.m.number, name)
	return a.create(&File{
		name: a.m.run.name + "/" + base,
		path: filepath.Join(dir, base),
		temp: filepath.Join(dir, tempName(base)),
	})
}

// Place makes a file that ends at the path final, outside the work folder. Until the attempt commits it has
// a temporary name in the same folder, which must exist; committing replaces what is at final. No two tasks
// may place the same file.
func (a *Attempt) Place(final string) (*File, error) {
	path, err := filepath.Abs(final)
	if err != nil {
		return nil, a.errorf("placing %s: %w", final, err)
	}
	temp := placedTemp(path, a.m.run.e.runID, a.m.env.Epoch, a.m.number)
	if w := a.m.run.work; w != nil {
		if err := w.intend(a.m.run.name, temp); err != nil {
			return nil, err
		}
	}
	return a.create(&File{name: path, path: path, temp: temp, placed: true})
}

// Remove deletes a file that this attempt made and does not want to commit, closed or not. Its name can be
// created again.
func (a *Attempt) Remove(f *File) error {
	m := a.m
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.files, f)
	if i < 0 {
		return a.errorf("removing file %s: this attempt did not make it", f.name)
	}
	m.files = slices.Delete(m.files, i, i+1)
	f.discard()
	return nil
}

func (a *Attempt) create(f *File) (*File, error) {
	m := a.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, a.errorf("creating file %s: the attempt has ended", f.name)
	}
	m.many(f)
	// O_EXCL: a second file of this name, in this attempt or of a task whose ID differs only in case where
	// the file system does not tell cases apart, must not overwrite the first.
	start := time.Now()
	file, err := m.run.e.fs.OpenFile(f.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return nil, a.errorf("creating file %s: it was created before: %w", f.name, err)
	}
	if err != nil {
		return nil, ioError("creating "+f.name, err)
	}
	m.life.sign()
	m.spent.write += time.Since(start)
	f.file, f.fs, f.of = file, m.run.e.fs, m
	f.w = writers.Get().(*bufio.Writer)
	f.w.Reset(meteredWriter{file, m})
	m.files = append(m.files, f)
	return f, nil
}

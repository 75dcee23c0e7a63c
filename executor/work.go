package executor

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/framelog"
	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
	"github.com/dovetail-dedup/dovetail/internal/lockfile"
)

// Work is an open work folder: the committed results of the tasks of one job, kept from run to run. It is
// safe for concurrent use, by one executor at a time. It keeps the IDs, results and file names of all committed
// tasks in memory.
type Work struct {
	dir     string
	fs      vfs.FS
	lock    *lockfile.Lock
	log     *framelog.Log
	meta    []byte
	metaLen int
	runID   uint64
	epoch   uint32
	resumed bool
	notes   []string
	remote  *Job // on ranks other than the root, which has the log

	mu      sync.Mutex
	commits map[string]map[string]*commit // by stage and task
	files   map[string]*openState         // by name
	made    map[string]bool               // stage folders that are known to exist and to be on disk
	intents map[string]string             // stages, by temporary files of theirs outside the folder
	closed  bool
}

const (
	lockName  = "lock"
	logName   = "log"
	spillName = "spill"
)

// OpenWork opens or creates the work folder dir and locks it. A folder that is new keeps meta, which says what
// the job is (its options, its list of inputs; at most 1 GiB); an old one keeps what it has, for
// the caller to compare with [Work.Meta] and to refuse or remove the folder.
//
// Opening reads the log, deletes what attempts left behind without committing, and starts a new epoch. It
// returns an error wrapping [ErrForeign] if the folder holds something and is no work folder, one wrapping
// [ErrLocked] that names the holder if another run has the folder, and one wrapping [ErrLogDamaged] if the log is
// damaged where it was known to be on disk. A run that was killed leaves none of them.
func OpenWork(dir string, meta []byte) (*Work, error) { return openWork(vfs.OS, dir, meta) }

func openWork(fsys vfs.FS, dir string, meta []byte) (*Work, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, ioError("finding the work folder "+dir, err)
	}
	if len(meta) > maxMeta {
		return nil, fmt.Errorf("executor: work folder %s: %d bytes of meta, at most %d fit; give a hash of them instead",
			abs, len(meta), maxMeta)
	}
	w := &Work{
		dir: abs, fs: fsys,
		commits: make(map[string]map[string]*commit),
		files:   make(map[string]*openState),
		made:    make(map[string]bool),
	}
	if err := w.open(meta); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Work) open(meta []byte) (err error) {
	if err := w.checkForeign(); err != nil {
		return err
	}
	if err := makeFolder(w.fs, w.dir); err != nil {
		return ioError("making the work folder", err)
	}
	// The lock is the operating system's, whatever file system the rest is on.
	if w.fs == vfs.OS {
		if w.lock, err = lockfile.Acquire(filepath.Join(w.dir, lockName)); err != nil {
			if held := (*lockfile.HeldError)(nil); errors.As(err, &held) {
				return fmt.Errorf("executor: %w: %w; wait for it to end, stop it, or use another folder", ErrLocked, held)
			}
			return ioError("locking the work folder", err)
		}
	}
	intents, err := w.openLog(meta)
	if err != nil {
		return err
	}
	if err := w.clean(intents); err != nil {
		return err
	}
	host, _ := os.Hostname() // only for people who look into the log
	return w.write(appendEpoch(nil, w.epoch, fmt.Sprintf("process %d on host %s", os.Getpid(), host)), true)
}

// checkForeign refuses a folder that holds anything but what a run leaves: it would be removed at the end. A run that was
// killed before it had a log leaves a lock and perhaps a log without its name, and one that was killed while its folder
// was being removed leaves files of attempts.
func (w *Work) checkForeign() error {
	if _, err := w.fs.Stat(filepath.Join(w.dir, logName)); err == nil {
		return nil
	}
	entries, err := w.fs.ReadDir(w.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ioError("listing the work folder", err)
	}
	for _, e := range entries {
		switch {
		case e.Name() == lockName, e.Name() == logName+".tmp", e.Name() == spillName:
		case e.IsDir() && w.attemptsOnly(e.Name()):
		default:
			return fmt.Errorf("executor: %w: %s holds %s, which is not a run's; choose another folder", ErrForeign, w.dir, e.Name())
		}
	}
	return nil
}

// attemptsOnly reports whether a folder has the name of a stage and holds files of attempts alone.
func (w *Work) attemptsOnly(stage string) bool {
	entries, err := w.fs.ReadDir(filepath.Join(w.dir, stage))
	return err == nil && checkStageName(stage) == nil &&
		!slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !isAttemptFile(e.Name()) })
}

// makeFolder makes a folder and those above it that are missing, and puts their names on disk.
func makeFolder(fsys vfs.FS, path string) error {
	if _, err := fsys.Stat(path); err == nil {
		return nil
	}
	parent := filepath.Dir(path)
	if parent == path {
		return nil
	}
	if err := makeFolder(fsys, parent); err != nil {
		return err
	}
	if err := fsys.MkdirAll(path, 0o777); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

// openLog reads the log, or makes one, and returns the temporary files of the last run outside the folder.
func (w *Work) openLog(meta []byte) (intents []string, err error) {
	path := filepath.Join(w.dir, logName)
	if _, err := w.fs.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := w.createLog(path, meta); err != nil {
			return nil, ioError("making the commit log", err)
		}
	} else {
		w.resumed = true
	}
	f, err := w.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, ioError("opening the commit log", err)
	}
	intern := make(map[string]string)
	first := true
	visit := func(payload []byte) error {
		for d := (decoder{b: payload, intern: intern}); len(d.b) > 0; first = false {
			if err := w.replay(&d, first, &intents); err != nil {
				return err
			}
		}
		return nil
	}
	l, torn, err := framelog.Open(f, visit)
	if err != nil {
		f.Close()
		if errors.Is(err, framelog.ErrDamaged) {
			return nil, fmt.Errorf("executor: %w: %w; remove the folder %s to start from the beginning",
				ErrLogDamaged, err, w.dir)
		}
		return nil, ioError("reading the commit log", err)
	}
	w.log = l
	if len(w.meta) != w.metaLen {
		return nil, fmt.Errorf("executor: %w: %s: its header has %d of %d bytes; remove the folder %s to start from the beginning",
			ErrLogDamaged, path, len(w.meta), w.metaLen, w.dir)
	}
	if torn > 0 {
		w.notes = append(w.notes, fmt.Sprintf("the last %d bytes of %s were not written completely before a crash and were removed",
			torn, path))
	}
	w.epoch++
	return intents, nil
}

// createLog makes a log with its header. It gets its name only when it is complete and on disk, so a log
// without a header is always damage.
func (w *Work) createLog(path string, meta []byte) error {
	temp := path + ".tmp"
	f, err := w.fs.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	var id [8]byte
	rand.Read(id[:]) // never fails
	records := headerRecords(binary.LittleEndian.Uint64(id[:]), meta)
	l, err := framelog.Create(f, appendRecord(nil, records[0]))
	for _, r := range records[1:] {
		if err == nil {
			err = l.Append(appendRecord(nil, r))
		}
	}
	if err == nil {
		err = l.Sync()
	}
	if err != nil {
		f.Close()
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := w.fs.Rename(temp, path); err != nil {
		return err
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return err
	}
	return w.fs.SyncDir(filepath.Dir(w.dir))
}

// appendRecord puts the length of a record in front of it.
func appendRecord(b, record []byte) []byte { return appendString(b, record) }

// replay applies the next record of a frame. The first record of a log is its header.
func (w *Work) replay(frame *decoder, first bool, intents *[]string) error {
	d := &decoder{b: frame.bytes(), intern: frame.intern}
	if frame.err != nil {
		return frame.err
	}
	kind := d.byte()
	if (kind == recHeader) != first {
		return fmt.Errorf("record of kind %d where the header is expected, or the other way round", kind)
	}
	switch kind {
	case recHeader:
		if v := d.uvarint(1 << 30); v != logVersion && d.err == nil {
			return fmt.Errorf("it has version %d and this program reads version %d", v, logVersion)
		}
		if id := d.take(8); id != nil {
			w.runID = binary.LittleEndian.Uint64(id)
		}
		w.metaLen = int(d.uvarint(maxMeta))
		w.meta = slices.Clone(d.bytes())
	case recMeta:
		if w.meta = append(w.meta, d.bytes()...); len(w.meta) > w.metaLen {
			return fmt.Errorf("its header has more than the %d bytes it says", w.metaLen)
		}
	case recEpoch:
		w.epoch = uint32(d.uvarint(math.MaxUint32 - 1))
		d.bytes()
		// The run that wrote this removed what earlier ones had left.
		*intents = (*intents)[:0]
	case recIntent:
		*intents = append(*intents, d.string())
	case recRevoke:
		c := w.commits[d.name()][d.string()]
		epoch, attempt := uint32(d.uvarint(math.MaxUint32)), uint32(d.uvarint(math.MaxUint32))
		if d.err == nil && c != nil && c.epoch == epoch && c.attempt == attempt {
			w.forget(c)
		}
	case recCommit:
		if c := d.commit(); d.err == nil {
			w.index(c, false)
		}
	default:
		return fmt.Errorf("record of unknown kind %d, perhaps from a newer version of this program", kind)
	}
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("record of kind %d has %d bytes too many", kind, len(d.b))
	}
	return d.err
}

// index makes c the commit of its task and returns the one it replaces, if any.
func (w *Work) index(c *commit, verified bool) (old *commit) {
	tasks := w.commits[c.stage]
	if tasks == nil {
		tasks = make(map[string]*commit)
		w.commits[c.stage] = tasks
	}
	if old = tasks[c.task]; old != nil {
		w.forget(old)
	}
	tasks[c.task] = c
	for _, f := range c.files {
		w.files[f.name] = &openState{info: f, by: c, verified: verified}
	}
	return old
}

func (w *Work) forget(c *commit) {
	if c == nil || w.commits[c.stage][c.task] != c {
		return
	}
	delete(w.commits[c.stage], c.task)
	for _, f := range c.files {
		if w.files[f.name].by == c {
			delete(w.files, f.name)
		}
	}
}

// clean deletes what no commit owns: the temporary files named by intents, files of attempts in the
// folders of stages, and what was spilled.
func (w *Work) clean(intents []string) error {
	removed := 0
	for _, path := range intents {
		switch err := w.fs.Remove(path); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			return ioError("removing what an unfinished attempt left", err)
		}
	}
	stages, err := w.fs.ReadDir(w.dir)
	if err != nil {
		return ioError("listing the work folder", err)
	}
	for _, stage := range stages {
		if !stage.IsDir() || checkStageName(stage.Name()) != nil {
			continue
		}
		dir := filepath.Join(w.dir, stage.Name())
		entries, err := w.fs.ReadDir(dir)
		if err != nil {
			return ioError("listing the work folder", err)
		}
		for _, e := range entries {
			if _, ok := w.files[stage.Name()+"/"+e.Name()]; ok || !isAttemptFile(e.Name()) {
				continue
			}
			if err := w.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
				return ioError("removing what an unfinished attempt left", err)
			}
			removed++
		}
	}
	if w.fs == vfs.OS {
		if err := RemoveAll(w.spillDir()); err != nil {
			return ioError("removing spilled data of an earlier run", err)
		}
	}
	if removed > 0 {
		w.notes = append(w.notes, fmt.Sprintf("removed %d files of attempts that an earlier run did not finish", removed))
	}
	return nil
}

func (w *Work) spillDir() string { return filepath.Join(w.dir, spillName) }

// stageDir returns the folder of a stage, which exists and is on disk.
func (w *Work) stageDir(stage string) (string, error) {
	dir := filepath.Join(w.dir, stage)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return "", w.errClosed()
	}
	if w.made[stage] {
		return dir, nil
	}
	makeDir := w.fs.MkdirAll
	if w.remote != nil {
		makeDir = makeDirIn
	}
	if err := makeDir(dir, 0o777); err != nil {
		return "", ioError("making a folder for a stage", err)
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return "", ioError("making a folder for a stage", err)
	}
	w.made[stage] = true
	return dir, nil
}

func (w *Work) errClosed() error { return fmt.Errorf("executor: work folder %s: %w", w.dir, ErrClosed) }

// write appends one record to the log.
func (w *Work) write(record []byte, sync bool) error {
	if err := w.log.Append(appendRecord(nil, record)); err != nil {
		return ioError("writing "+filepath.Join(w.dir, logName), err)
	}
	if sync {
		return w.sync()
	}
	return nil
}

func (w *Work) sync() error {
	if err := w.log.Sync(); err != nil {
		return ioError("syncing "+filepath.Join(w.dir, logName), err)
	}
	return nil
}

// seal puts the log on disk and marks that it is.
func (w *Work) seal() error {
	if w.remote != nil {
		return nil
	}
	if err := w.log.Seal(); err != nil {
		return ioError("syncing "+filepath.Join(w.dir, logName), err)
	}
	return nil
}

// intend says that a temporary file is about to be made outside the folder, so that a later run removes it.
// It need not be synced: if the machine stops, the file is likely gone too, and otherwise the next attempt
// of the task takes another name.
func (w *Work) intend(stage, path string) error {
	if w.remote == nil {
		w.mu.Lock()
		if w.intents == nil {
			w.intents = make(map[string]string)
		}
		w.intents[path] = stage
		w.mu.Unlock()
		return w.write(appendIntent(nil, path), false)
	}
	m, err := w.remote.ask(context.Background(), &control.Message{Kind: kindIntend, Stage: stage, Text: path})
	if err == nil && m.Flags&flagFailed != 0 {
		err = &RemoteError{Rank: 0, Text: m.Text}
	}
	return err
}

// placed says that a temporary file has its final name.
func (w *Work) placed(temp string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.intents, temp)
}

// sweep removes the temporary files that attempts of a stage have left outside the folder, because their actor was killed. The stage
// has ended.
func (w *Work) sweep(stage string) error {
	w.mu.Lock()
	var left []string
	for path, of := range w.intents {
		if of == stage {
			left = append(left, path)
			delete(w.intents, path)
		}
	}
	w.mu.Unlock()
	for _, path := range left {
		if err := w.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ioError("removing what an unfinished attempt left", err)
		}
	}
	return nil
}

// commitAll appends the commits of tasks whose files are in place. With durable they are on disk when it
// returns nil; without, they survive this process but perhaps not the machine.
func (w *Work) commitAll(cs []*commit, durable bool) error {
	const frame = 4 << 20
	var buf, rec []byte
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		if err := w.log.Append(buf); err != nil {
			return ioError("writing "+filepath.Join(w.dir, logName), err)
		}
		buf = buf[:0]
		return nil
	}
	for _, c := range cs {
		rec = appendCommit(rec[:0], c)
		if len(buf)+len(rec) > frame {
			if err := flush(); err != nil {
				return err
			}
		}
		buf = appendRecord(buf, rec)
	}
	if err := flush(); err != nil {
		return err
	}
	if durable {
		if err := w.sync(); err != nil {
			return err
		}
	}
	for _, c := range cs {
		w.mu.Lock()
		old := w.index(c, true)
		w.mu.Unlock()
		w.removeReplaced(old)
	}
	return nil
}

// Dir returns the absolute path of the folder.
func (w *Work) Dir() string { return w.dir }

// Meta returns what the folder was created with.
func (w *Work) Meta() []byte { return slices.Clone(w.meta) }

// Resumed reports whether the folder existed before.
func (w *Work) Resumed() bool { return w.resumed }

// Epoch counts the times the folder was opened, from 1.
func (w *Work) Epoch() uint32 { return w.epoch }

// RunID is a random number given to the folder when it was created.
func (w *Work) RunID() uint64 { return w.runID }

// Notes says in lines for people what opening found and did, such as a torn end of the log cut off.
func (w *Work) Notes() []string { return slices.Clone(w.notes) }

// Close puts the log on disk and unlocks the folder. It may be called again, and on nil.
func (w *Work) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	var errs []error
	if w.log != nil {
		errs = append(errs, w.log.Seal(), w.log.Close())
	}
	if w.lock != nil {
		errs = append(errs, w.lock.Release())
	}
	if err := errors.Join(errs...); err != nil {
		return ioError("closing work folder "+w.dir, err)
	}
	return nil
}

package executor

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// openState is what OpenCommitted knows of a file.
type openState struct {
	info     fileInfo
	by       *commit
	verified bool
}

// removeReplaced deletes the files of a commit that another has replaced. What cannot be deleted now is
// deleted when the folder is opened next.
func (w *Work) removeReplaced(old *commit) {
	if old == nil {
		return
	}
	for _, f := range old.files {
		w.mu.Lock()
		_, used := w.files[f.name]
		w.mu.Unlock()
		if !used && !f.placed {
			_ = w.fs.Remove(w.path(f.name))
		}
	}
}

// lookup returns the commit of a task with the given input whose files exist with their sizes, or nil and,
// if there is a commit that cannot be used, why.
func (w *Work) lookup(stage, task string, input inputHash) (c *commit, note string) {
	w.mu.Lock()
	c = w.commits[stage][task]
	w.mu.Unlock()
	if c == nil {
		return nil, ""
	}
	if c.input != input {
		return nil, fmt.Sprintf("task %q of stage %q runs again: it is given other work than in the run that finished it",
			task, stage)
	}
	for _, f := range c.files {
		st, err := w.fs.Stat(w.path(f.name))
		if err == nil && st.Size() != f.size {
			err = fmt.Errorf("%s has %d bytes, not %d", w.path(f.name), st.Size(), f.size)
		}
		if err != nil {
			return nil, fmt.Sprintf("task %q of stage %q runs again: %v", task, stage, err)
		}
	}
	return c, ""
}

func (w *Work) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(w.dir, filepath.FromSlash(name))
}

// Committed returns the number of committed tasks of a stage, which for a shuffle stage are its partitions.
func (w *Work) Committed(stage string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.commits[stage])
	if w.commits[stage][""] != nil { // the counters of inserts
		n--
	}
	return n
}

// OpenCommitted opens a committed file for reading by the name [File.Name] gave. A file of an earlier run
// is read once and compared with its checksum. If it is missing or differs, the error wraps [ErrFileDamaged],
// and the next run does the task that wrote it again.
func (w *Work) OpenCommitted(name string) (*os.File, error) {
	st, err := w.find(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(w.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, w.revoke(st, err)
	}
	if err != nil {
		return nil, ioError("opening a committed file", err)
	}
	if err := w.verify(st, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (w *Work) verify(st *openState, f *os.File) error {
	w.mu.Lock()
	done := st.verified
	w.mu.Unlock()
	if done {
		return nil
	}
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, f)
	if err != nil {
		return ioError("reading a committed file", err)
	}
	if n != st.info.size {
		return w.revoke(st, fmt.Errorf("%s has %d bytes, not %d", f.Name(), n, st.info.size))
	}
	if sum.Sum32() != st.info.crc {
		return w.revoke(st, fmt.Errorf("%s has CRC32C %08x, not %08x", f.Name(), sum.Sum32(), st.info.crc))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ioError("reading a committed file", err)
	}
	w.mu.Lock()
	st.verified = true
	w.mu.Unlock()
	return nil
}

// revoke takes back the commit that a file belongs to and returns an error that says so.
func (w *Work) revoke(st *openState, cause error) error {
	if w.remote != nil {
		return w.revokeRemote(st, cause)
	}
	c := st.by
	w.mu.Lock()
	w.forget(c)
	w.mu.Unlock()
	err := fmt.Errorf("executor: %w: %w; run again to have task %q of stage %q done again",
		ErrFileDamaged, cause, c.task, c.stage)
	return errors.Join(err, w.write(appendRevoke(nil, c), true))
}

package curator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
)

// What the ranks of a job must know of each other; see [Exec].Job.

// shared is what rank 0's Exec says for all: what is cut into how many parts must be the same on all ranks.
type shared struct {
	Workers     int           `json:"workers"`
	MemoryLimit int64         `json:"memory_limit"`
	SplitBytes  int64         `json:"split_bytes"`
	OnDisk      bool          `json:"on_disk"`
	TaskTimeout time.Duration `json:"task_timeout"`
}

// agree takes over rank 0's Exec.
func (e *Exec) agree(ctx context.Context) error {
	s := shared{e.Workers, e.MemoryLimit, e.SplitBytes, e.onDisk, e.TaskTimeout}
	if err := runfolder.Agree(ctx, e.Job, "curator: ", &s); err != nil {
		return err
	}
	e.Workers, e.MemoryLimit, e.SplitBytes, e.onDisk, e.TaskTimeout = s.Workers, s.MemoryLimit, s.SplitBytes, s.OnDisk, s.TaskTimeout
	return nil
}

// found is what rank 0 found in the output folders.
type found struct {
	Hash   string          `json:"hash"` // of the job
	Done   bool            `json:"done"`
	Result json.RawMessage `json:"result"`
}

// finished reports whether the output is there already and then decodes its result. Rank 0 looks, and tells the others.
func (j *job) finished(ctx context.Context, result any) (done bool, err error) {
	data, err := j.Job.Share(ctx, "output folders", func() ([]byte, error) {
		if done, err = j.lookAll(result); err != nil || j.Job == nil {
			return nil, err
		}
		f := found{Hash: j.hash, Done: done}
		if f.Result, err = json.Marshal(result); err != nil {
			return nil, err
		}
		return json.Marshal(f)
	})
	if err != nil || j.Job.Root() {
		return done, err
	}
	var f found
	if err = json.Unmarshal(data, &f); err == nil && f.Done {
		err = json.Unmarshal(f.Result, result)
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("curator: rank 0 describes its output in a way that makes no sense: %w", err)
	case f.Hash != j.hash:
		return false, fmt.Errorf("curator: rank %d has other options than rank 0, or does not see the same input; it must be on storage that all "+
			"ranks share, under one path", j.Job.Rank())
	}
	return f.Done, nil
}

// follow does the part of a rank that is not rank 0: all but what only one may do.
func (j *job) follow(ctx context.Context, f func(ctx context.Context) (result any, err error)) error {
	if err := j.open(ctx); err != nil {
		return err
	}
	_, err := f(ctx)
	if err = errors.Join(err, j.ex.Close()); err == nil {
		err = j.meet(ctx, nil)
	}
	return errors.Join(err, j.work.Close())
}

// meet puts the output folders in place, with result, when all ranks are done: they read work files until then.
func (j *job) meet(ctx context.Context, result any) error {
	if err := j.Job.Meet(ctx, "result"); err != nil {
		return err
	}
	_, err := j.Job.Share(ctx, "result", func() ([]byte, error) { return nil, j.place(result) })
	return err
}

// everyone is the most actors that work at a time, on all ranks.
func (e *Exec) everyone() int { return e.actors() * e.Job.Size() }

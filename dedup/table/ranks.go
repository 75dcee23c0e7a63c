package table

import (
	"context"
	"encoding/json"

	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
)

// What the ranks of a job must know of each other; see [Options].Job.

// agree takes over rank 0's Exec: what it cuts into how many parts must be the same on all ranks.
func (r *run) agree(ctx context.Context) error {
	if err := runfolder.Agree(ctx, r.Job, "", &r.Exec); err != nil || r.Job.Root() {
		return err
	}
	r.plan = r.Exec.plan()
	return nil
}

// checkDone returns the result of a run that is complete, if there is one, and cleans up after it.
func (r *run) checkDone(ctx context.Context) (done *Result, err error) {
	data, err := r.Job.Share(ctx, "output folder", func() ([]byte, error) {
		if done, err = r.checkOutput(); err != nil || done == nil {
			return nil, err
		}
		// A run that was killed in its last moment may have left its lock and its work folder.
		runfolder.ForgetLock(r.folders.Output)
		if !r.KeepWork {
			if err := r.folders.Tidy(); err != nil {
				return nil, err
			}
		}
		return json.Marshal(done)
	})
	if err != nil || done != nil || len(data) == 0 {
		return done, err
	}
	if done, err = decodeResult(data); err == nil {
		done.AlreadyDone = true
	}
	return done, err
}

// decodeResult is how ranks other than the root learn of the result.
func decodeResult(data []byte) (*Result, error) { return runfolder.Result[Result]("", data) }

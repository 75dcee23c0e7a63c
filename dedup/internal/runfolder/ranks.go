package runfolder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/executor"
)

// What the ranks of a job learn from rank 0. prefix begins errors that are found here, such as "dedup: ".

// Agree takes over rank 0's value, but for what is not written down of it. Without a job nothing happens.
func Agree[T any](ctx context.Context, j *executor.Job, prefix string, mine *T) error {
	if j == nil {
		return nil
	}
	data, err := j.Share(ctx, "options", func() ([]byte, error) { return json.Marshal(mine) })
	if err != nil || j.Root() {
		return err
	}
	agreed := *mine
	if err := json.Unmarshal(data, &agreed); err != nil {
		return fmt.Errorf("%srank 0 describes its options in a way that makes no sense: %w", prefix, err)
	}
	*mine = agreed
	return nil
}

// Result is what rank 0 said of its result.
func Result[T any](prefix string, data []byte) (*T, error) {
	res := new(T)
	if err := json.Unmarshal(data, res); err != nil {
		return nil, fmt.Errorf("%srank 0 describes its result in a way that makes no sense: %w", prefix, err)
	}
	return res, nil
}

// OpenShared is [Open] on rank 0; the others follow it. All fill in mine.Splits.
func OpenShared[S any](ctx context.Context, j *executor.Job, prefix string, f *Folders, mine *Job[S], o Opening[S]) (
	w *executor.Work, staging string, err error) {
	w, err = j.ShareWork(ctx, func() (w *executor.Work, err error) {
		w, staging, err = Open(f, mine, o)
		return w, err
	})
	if err != nil || j.Root() {
		return w, staging, err
	}
	if err := mine.Follow(w); err != nil {
		return nil, "", errors.Join(fmt.Errorf("%srank %d: %w", prefix, j.Rank(), err), w.Close())
	}
	return w, f.Staging(w), nil
}

//go:build !ucx || !cgo || !amd64

package goodput

import (
	"context"
	"time"

	"github.com/dovetail-dedup/dovetail/ucx"
)

// Way is UCX with one way to move bytes, which is not in this build.
type Way struct{}

// Open fails with [ucx.ErrNotBuilt].
func Open(string) (*Way, error) { return nil, ucx.ErrNotBuilt }

// Close does nothing.
func (w *Way) Close() error { return nil }

// Version returns nothing.
func (w *Way) Version() string { return "" }

// Shuffle fails with [ucx.ErrNotBuilt].
func (w *Way) Shuffle(context.Context, int) (wall, cpu time.Duration, err error) {
	return 0, 0, ucx.ErrNotBuilt
}

// Loop fails with [ucx.ErrNotBuilt].
func (w *Way) Loop(int) (wall, cpu time.Duration, err error) { return 0, 0, ucx.ErrNotBuilt }

// Idle fails with [ucx.ErrNotBuilt].
func (w *Way) Idle(context.Context, int, time.Duration) (float64, error) { return 0, ucx.ErrNotBuilt }

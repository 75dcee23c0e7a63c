//go:build !ucx || !cgo

package ucx

// Context is UCX in this process, which is not in this build.
type Context struct{}

// Load fails with [ErrNotBuilt].
func Load(string) error { return ErrNotBuilt }

// Open fails with [ErrNotBuilt].
func Open(Config) (*Context, error) { return nil, ErrNotBuilt }

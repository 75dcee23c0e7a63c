//go:build !pmix

package pmix

import "errors"

// ErrNotBuilt says that this program cannot use PMIx.
var ErrNotBuilt = errors.New("this program was built without the tag pmix (make build-pmix)")

// Available returns nil if PMIx can be used here.
func Available() error { return ErrNotBuilt }

// Client is this process as a client of PMIx. In this build there are none.
type Client struct{ never }

type never struct{}

// Open joins the launcher's service.
func Open() (*Client, error) { return nil, ErrNotBuilt }

// Size is the number of ranks.
func (never) Size() int { return 0 }

// Put says something about this rank.
func (never) Put(string, []byte) error { return ErrNotBuilt }

// Fence waits for all ranks.
func (never) Fence() error { return ErrNotBuilt }

// Get returns what a rank has put.
func (never) Get(int, string) ([]byte, error) { return nil, ErrNotBuilt }

// Close leaves the service.
func (never) Close() error { return ErrNotBuilt }

//go:build !cuda

package cuda

import (
	"errors"
	"strings"
	"testing"
)

// A build without CUDA says so.
func TestOpenNotBuilt(t *testing.T) {
	if _, err := Open(); !errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), "built without CUDA") {
		t.Errorf("got %v", err)
	}
}

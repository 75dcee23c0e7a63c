//go:build cuda

package cuda

import (
	"embed"
	"errors"
)

// built holds kernels.fatbin if `make kernels` was run before the build, and a README always, so that every build compiles.
//
//go:embed built
var built embed.FS

// ErrNoKernels is what [Fatbin] returns in a binary that was built without the kernels.
var ErrNoKernels = errors.New("cuda: built without kernels; `make kernels build-cuda` makes a binary that has them")

// Fatbin returns the module with all kernels that kernels.h declares, as cuModuleLoadData takes it: for the GPUs that it was
// compiled for, and as PTX for newer ones. It fails with [ErrNoKernels].
func Fatbin() ([]byte, error) {
	b, err := built.ReadFile("built/kernels.fatbin")
	if err != nil {
		return nil, ErrNoKernels
	}
	return b, nil
}

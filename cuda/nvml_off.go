//go:build !cuda

package cuda

func open() (library, error) { return nil, ErrNotBuilt }

//go:build !linux

package locality

import "errors"

// Allowed is known on Linux only.
func Allowed() ([]int, error) { return nil, errors.ErrUnsupported }

// Bind is possible on Linux only.
func Bind([]int) error { return errors.ErrUnsupported }

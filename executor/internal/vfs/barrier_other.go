//go:build !linux

package vfs

import "errors"

func openBarrier(string) (Barrier, error) { return nil, errors.ErrUnsupported }

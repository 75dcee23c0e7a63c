//go:build !cuda

package engine

import (
	"errors"

	"github.com/dovetail-dedup/dovetail/cuda"
)

func (a *Accelerators) open(Options) error { return cuda.ErrNotBuilt }

// Addresses returns where in PCI the GPUs are that [Open] would find: there are none.
func Addresses(Options) []string { return nil }

// usual reports whether an error is no reason to tell anyone: there just are no GPUs.
func usual(err error) bool { return errors.Is(err, cuda.ErrNotBuilt) }

// Describe says, in lines for people, what this build can do with GPUs here: nothing.
func Describe() []string { return nil }

package lsh_test

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
)

func TestCPUConformance(t *testing.T) {
	kernelstest.Run(t, kernelstest.Device{New: func(p lsh.Params) (lsh.Kernels, error) {
		c, err := lsh.NewCPU(p)
		if err != nil {
			return nil, err
		}
		return c, nil
	}})
}

package lsh_test

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
	"github.com/dovetail-dedup/dovetail/mem"
)

func TestHostBackend(t *testing.T) {
	kernelstest.RunBackend(t, func(p lsh.Params) (lsh.Backend, error) {
		k, err := lsh.NewCPU(p)
		if err != nil {
			return nil, err
		}
		return lsh.NewHostBackend(k, mem.NewChecked(t, mem.Host()))
	})
}

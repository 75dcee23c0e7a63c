package lsh_test

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
	"github.com/dovetail-dedup/dovetail/mem"
)

func TestHostBackend(t *testing.T) {
	kernelstest.RunBackend(t, func(p lsh.Params) (lsh.Backend, error) {
		return lsh.NewCPUBackend(p, mem.NewChecked(t, mem.Host()))
	})
}

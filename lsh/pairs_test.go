package lsh_test

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
)

func TestCPUPairs(t *testing.T) { kernelstest.RunPairs(t, lsh.NewCPUPairs) }

//go:build !cuda

package main

import (
	"strings"
	"testing"
)

func TestInfoWithoutCUDA(t *testing.T) {
	if _, out, _ := dovetail("info"); !strings.Contains(out, "no GPUs: built without CUDA; ") {
		t.Errorf("%s", out)
	}
}

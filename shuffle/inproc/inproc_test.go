package inproc_test

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
	"github.com/dovetail-dedup/dovetail/shuffle/transporttest"
)

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T, size int) []shuffle.Transport {
		return inproc.New(size, inproc.Options{})
	})
}

func TestConformanceCopying(t *testing.T) {
	transporttest.Run(t, func(t *testing.T, size int) []shuffle.Transport {
		return inproc.New(size, inproc.Options{Copy: true})
	})
}

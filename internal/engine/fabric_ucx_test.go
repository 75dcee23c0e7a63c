//go:build ucx && cgo

package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Ranks on one machine that all have UCX use it, with auto too; one without has all use TCP; and one that insists on UCX is told.
func TestFabricUCX(t *testing.T) {
	ucx, auto := fabric(t, TransportUCX), fabric(t, TransportAuto)
	if err := errors.Join(meetOver(t, ucx, ucx)...); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(meetOver(t, auto, auto, auto)...); err != nil {
		t.Fatal(err)
	}
	if ucx.Name() != TransportUCX || auto.Name() != TransportUCX {
		t.Error(ucx.Name(), auto.Name())
	}
	elsewhere := &chooser{tcp: executor.TCPFabric(nil), offer: func() offer {
		o := offers()()
		o.(*ucxOffer).machine = "another"
		return o
	}}
	if err := errors.Join(meetOver(t, auto, elsewhere)...); err != nil || auto.Name() != TransportTCP {
		t.Error(auto.Name(), err)
	}
	if errs := meetOver(t, ucx, fabric(t, TransportTCP)); !slices.ContainsFunc(errs, func(err error) bool {
		return errors.Is(err, shuffle.ErrMismatch) && strings.Contains(err.Error(), "all ranks must use the same transport")
	}) {
		t.Error(errs)
	}
}

func TestDescribeTransports(t *testing.T) {
	if lines := DescribeTransports(); len(lines) != 1 || !strings.Contains(lines[0], "UCX: 1.") || !strings.Contains(lines[0], "posix/memory") {
		t.Error(lines)
	}
}

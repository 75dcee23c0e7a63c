//go:build ucx && cgo

package engine

import (
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
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
		o := offers(tcp.PortRange{})()
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

// The ports for data are those of UCX too, and two that say otherwise are told.
func TestFabricPorts(t *testing.T) {
	ports := tcp.PortRange{First: 28751, Last: 28759}
	t.Setenv("UCX_TCP_PORT_RANGE", "28760-28770")
	if _, err := Fabric(TransportUCX, ports, nil); err == nil || err.Error() !=
		"--transport ucx: the ports for data are 28751-28759, and $UCX_TCP_PORT_RANGE is 28760-28770; unset one of the two" {
		t.Error(err)
	}
	os.Unsetenv("UCX_TCP_PORT_RANGE")
	f, err := Fabric(TransportUCX, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	var taken []net.Listener // so that UCX, if it heeds them, finds none
	for port := ports.First; port <= ports.Last; port++ {
		if l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			taken = append(taken, l)
		}
	}
	if _, err := f.Open("127.0.0.1"); err == nil || !strings.Contains(err.Error(), "none of the ports 28751-28759 is free") {
		t.Error(err)
	}
	auto, err := Fabric(TransportAuto, tcp.PortRange{First: 28771, Last: 28779}, nil) // shared memory, which takes none
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(meetOver(t, auto, auto)...); err != nil || auto.Name() != TransportUCX {
		t.Error(auto.Name(), err)
	}
	for _, l := range taken {
		l.Close()
	}
	if err := errors.Join(meetOver(t, f, f)...); err != nil {
		t.Error(err)
	}
}

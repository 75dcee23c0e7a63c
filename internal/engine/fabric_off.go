//go:build !ucx || !cgo

package engine

import (
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
	"github.com/dovetail-dedup/dovetail/ucx"
)

func newUCX(tcp.PortRange, func(line string)) (executor.Fabric, error) {
	return nil, ucx.ErrNotBuilt
}

func offers(tcp.PortRange) offerer { return nil }

// DescribeTransports says, in lines for people, what ranks that are processes can talk through.
func DescribeTransports() []string { return []string{"UCX: not in this build"} }

package tcp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports returns a network that is n but for listeners at port 0: they get a port from first to last that is free. It is for networks
// whose firewalls let only these pass.
func Ports(n Network, first, last int) (Network, error) {
	if first < 1 || last > 65535 || first > last {
		return nil, fmt.Errorf("tcp: ports %d-%d: must be from 1 to 65535, the smaller first", first, last)
	}
	return portRange{n, first, last}, nil
}

type portRange struct {
	Network
	first, last int
}

func (p portRange) Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" {
		return p.Network.Listen(addr)
	}
	// Ranks that begin at the same place would get into each other's way again and again.
	n := p.last - p.first + 1
	start := rand.IntN(n)
	for i := range n {
		l, err := p.Network.Listen(net.JoinHostPort(host, strconv.Itoa(p.first+(start+i)%n)))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return nil, fmt.Errorf("tcp: none of the ports %d-%d of %s is free", p.first, p.last, host)
}

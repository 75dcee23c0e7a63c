package tcp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// PortRange is ports from First to Last; the zero PortRange is any. It is for networks whose firewalls let only some pass.
type PortRange struct{ First, Last int }

// ParsePortRange reads a port, or two and a hyphen between them, as 40000-40999; nothing is any port.
func ParsePortRange(text string) (r PortRange, err error) {
	if text == "" {
		return r, nil
	}
	from, to, two := strings.Cut(text, "-")
	if !two {
		to = from
	}
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || first < 1 || last > 65535 || first > last {
		return r, errors.New("give ports from 1 to 65535, as 40000-40999")
	}
	return PortRange{first, last}, nil
}

// Any reports whether any port will do.
func (r PortRange) Any() bool { return r == PortRange{} }

// String returns the range as ParsePortRange reads it.
func (r PortRange) String() string {
	if r.Any() {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Network returns a network that is n but for listeners at port 0: they get a port of the range that is free.
func (r PortRange) Network(n Network) Network {
	if r.Any() {
		return n
	}
	return portRange{n, r.First, r.Last}
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

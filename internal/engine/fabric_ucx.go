//go:build ucx && cgo

package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
	"github.com/dovetail-dedup/dovetail/ucx"
)

// contexts are those of UCX that are open in this process, by what was set. They stay open: each takes a moment to open, and
// every round of a job needs one.
var contexts struct {
	sync.Mutex
	open map[string]*ucx.Context
}

func openContext(set map[string]string) (*ucx.Context, error) {
	key := fmt.Sprint(set)
	contexts.Lock()
	defer contexts.Unlock()
	if c := contexts.open[key]; c != nil {
		return c, nil
	}
	c, err := ucx.Open(ucx.Config{Set: set})
	if err != nil {
		return nil, err
	}
	if contexts.open == nil {
		contexts.open = make(map[string]*ucx.Context)
	}
	contexts.open[key] = c
	return c, nil
}

// ucxFabric is that of TransportUCX.
type ucxFabric struct {
	ports  tcp.PortRange
	note   func(line string)
	warned sync.Once
}

func newUCX(ports tcp.PortRange, note func(line string)) (executor.Fabric, error) {
	if err := ucx.Load(""); err != nil {
		return nil, err
	}
	if said := os.Getenv("UCX_TCP_PORT_RANGE"); said != "" && !ports.Any() && said != ports.String() {
		return nil, fmt.Errorf("the ports for data are %v, and $UCX_TCP_PORT_RANGE is %s; unset one of the two", ports, said)
	}
	return &ucxFabric{ports: ports, note: note}, nil
}

func (f *ucxFabric) Name() string { return TransportUCX }

// Open opens a port with everything that UCX finds; if host is a loopback address UCX listens at no other.
func (f *ucxFabric) Open(host string) (executor.Port, error) {
	set := make(map[string]string)
	if jobtls.Loopback(net.JoinHostPort(host, "0")) {
		set["NET_DEVICES"] = loopbackDevice()
	} else {
		f.warned.Do(func() {
			f.note("data between the ranks goes over UCX, which encrypts nothing; --transport tcp does")
		})
	}
	if !f.ports.Any() {
		set["TCP_PORT_RANGE"] = f.ports.String()
	}
	c, err := openContext(set)
	if err != nil {
		return nil, err
	}
	p, err := c.Listen()
	if err != nil {
		return nil, err
	}
	return ucxPort{p, host}, nil
}

// loopbackDevice is the name of the loopback interface.
func loopbackDevice() string {
	list, _ := net.Interfaces()
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Name
		}
	}
	return "lo"
}

type ucxPort struct {
	*ucx.Port
	host string
}

// Listens is what was asked for: at which ports of which devices UCX listens it does not say.
func (p ucxPort) Listens() string { return net.JoinHostPort(p.host, "0") }

func (p ucxPort) Connect(ctx context.Context, m executor.Meeting) (shuffle.Transport, error) {
	t, err := p.Port.Connect(ctx, ucx.Options{
		Job: m.Job, Rank: m.Rank, Addrs: m.Addrs, Epoch: m.Epoch, Spec: m.Spec, Secret: m.Secret, LinkTimeout: m.LinkTimeout,
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// offers returns what opens an offer of UCX, or nil if UCX is of no use here: it then stays unloaded, or idle.
func offers(ports tcp.PortRange) offerer {
	if ucx.Load("") != nil {
		return nil
	}
	return func() offer {
		// Shared memory of System V, for /dev/shm is small in containers. The ports are for who has set $UCX_TLS to something else.
		set := map[string]string{"TLS": "sysv,cma"}
		if !ports.Any() {
			set["TCP_PORT_RANGE"] = ports.String()
		}
		c, err := openContext(set)
		if err != nil {
			return nil
		}
		id, err := machine()
		if err != nil {
			return nil
		}
		p, err := c.Listen()
		if err != nil {
			return nil
		}
		return &ucxOffer{port: ucxPort{Port: p}, machine: id}
	}
}

// machine names what processes must have in common to share memory through UCX: a boot of a system, and namespaces of it.
func machine() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, _ = h.Write(boot)
	for _, ns := range []string{"ipc", "pid", "user"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return "", err
		}
		_, _ = h.Write([]byte(link))
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// ucxOffer is a port for ranks on one machine.
type ucxOffer struct {
	port    ucxPort
	machine string
}

func (o *ucxOffer) text() string { return o.machine + offerMark + o.port.Addr() }

func (o *ucxOffer) suits(texts []string) bool {
	for _, text := range texts {
		if id, _, ok := strings.Cut(text, offerMark); !ok || id != o.machine {
			return false
		}
	}
	return true
}

func (o *ucxOffer) connect(ctx context.Context, m executor.Meeting, texts []string) (shuffle.Transport, error) {
	m.Addrs = make([]string, len(texts))
	for r, text := range texts {
		_, m.Addrs[r], _ = strings.Cut(text, offerMark) // suits has looked
	}
	return o.port.Connect(ctx, m)
}

func (o *ucxOffer) close() error { return o.port.Close() }

// DescribeTransports says, in lines for people, what ranks that are processes can talk through.
func DescribeTransports() []string {
	c, err := openContext(nil)
	if err != nil {
		return []string{"UCX: none: " + strings.TrimPrefix(err.Error(), "ucx: ")}
	}
	line := fmt.Sprintf("UCX: %s, from %s, with %s", c.Version(), c.Library(), strings.Join(c.Transports(), ", "))
	if c.CUDA() {
		line += "; memory of CUDA devices too"
	}
	return []string{line}
}

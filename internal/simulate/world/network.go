package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// network connects hosts, one for each rank. Bytes arrive in order and whole, as TCP's do, but late; a loss is a longer delay.
// A connection breaks when someone resets it, when a host dies, or when its path is cut for longer than its owner put up with.
type network struct {
	mu      sync.Mutex
	start   time.Time
	rng     *rand.Rand
	hosts   map[int]*host // by rank: the latest
	paths   map[[2]int]*path
	port    int
	jitter  time.Duration // mean delay beyond the path's own
	losses  int           // one segment of so many is lost at first; 0 is none
	segment int           // bytes
	window  int           // bytes under way or not read, of one direction
	tick    time.Duration // what arrives between two of them is seen at the later one, all at once; 0 is at once
}

// path is what lies between two hosts.
type path struct {
	delay time.Duration
	until time.Time // it is cut until then
	since time.Time // it was cut
}

// host is one rank's side of the network: a tcp.Network.
type host struct {
	n         *network
	rank      int
	dead      bool
	listeners map[string]*listener
	conns     []*conn
}

func newNetwork(rng *rand.Rand) *network {
	n := &network{
		start: time.Now(), rng: rng, hosts: make(map[int]*host), paths: make(map[[2]int]*path), port: 20000,
		jitter: time.Duration(rng.Int64N(int64(3 * time.Millisecond))), segment: 256 << rng.IntN(9), window: 2048 << rng.IntN(8),
	}
	if rng.IntN(3) == 0 {
		n.tick = time.Duration(1+rng.Int64N(50)) * 100 * time.Microsecond
	}
	if rng.IntN(2) == 0 {
		n.losses = 100 + rng.IntN(1000)
	}
	return n
}

// join gives a rank a new host, which takes the place of an earlier one that is dead.
func (n *network) join(rank int) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{n: n, rank: rank, listeners: make(map[string]*listener)}
	n.hosts[rank] = h
	return h
}

func address(rank int) string { return fmt.Sprintf("127.0.%d.%d", rank/200, 1+rank%200) }

// path returns what lies between two ranks. The lock is held.
func (n *network) path(a, b int) *path {
	if a > b {
		a, b = b, a
	}
	p := n.paths[[2]int{a, b}]
	if p == nil {
		p = &path{delay: time.Duration(n.rng.Int64N(int64(2 * time.Millisecond)))}
		n.paths[[2]int{a, b}] = p
	}
	return p
}

// late is how long the next segment takes. The lock is held.
func (n *network) late(p *path) time.Duration {
	d := p.delay + time.Duration(n.rng.ExpFloat64()*float64(n.jitter))
	if n.losses > 0 && n.rng.IntN(n.losses) == 0 {
		d += 200 * time.Millisecond << n.rng.IntN(3)
	}
	return d
}

// cut cuts the path between two ranks for some time; what is under way arrives after it.
func (n *network) cut(a, b int, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, now := n.path(a, b), time.Now()
	if now.After(p.until) {
		p.since = now
	}
	if until := now.Add(d); until.After(p.until) {
		p.until = until
	}
	for _, h := range []*host{n.hosts[a], n.hosts[b]} {
		if h == nil {
			continue
		}
		for _, c := range h.conns {
			if c.remote.rank == a || c.remote.rank == b {
				c.watch(p)
			}
		}
	}
}

// slow makes a path slower by a factor, for good.
func (n *network) slow(a, b int, factor int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(a, b)
	p.delay = min(time.Second, (p.delay+time.Millisecond)*time.Duration(factor))
}

// reset breaks a connection of a rank at both ends at once.
func (n *network) reset(rank int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[rank]
	if h == nil || len(h.conns) == 0 {
		return false
	}
	c := h.conns[n.rng.IntN(len(h.conns))]
	c.fail(syscall.ECONNRESET)
	c.peer.fail(syscall.ECONNRESET)
	return true
}

// kill ends a host: nothing leaves it any more. Silently, its peers are told nothing; otherwise their connections are reset.
func (h *host) kill(silently bool) {
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	h.dead = true
	for _, l := range h.listeners {
		l.shut()
	}
	for _, c := range append([]*conn(nil), h.conns...) {
		c.fail(syscall.ENETDOWN)
		if !silently {
			peer := c.peer
			time.AfterFunc(n.late(n.path(h.rank, c.remote.rank)), func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				peer.fail(syscall.ECONNRESET)
			})
		} else {
			c.peer.orphaned()
		}
	}
}

func failure(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, err)}
}

// Listen opens a listener on the host, whatever host the address names.
func (h *host) Listen(addr string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.dead {
		return nil, failure("listen", syscall.ENETDOWN)
	}
	if port == "0" {
		h.n.port++
		port = strconv.Itoa(h.n.port)
	}
	at := net.JoinHostPort(address(h.rank), port)
	if h.listeners[at] != nil {
		return nil, failure("listen", syscall.EADDRINUSE)
	}
	l := &listener{h: h, addr: tcpAddr(at), backlog: make(chan *conn, 1024), closed: make(chan struct{})}
	h.listeners[at] = l
	return l, nil
}

func tcpAddr(at string) net.Addr {
	host, port, _ := net.SplitHostPort(at)
	p, _ := strconv.Atoi(port)
	return &net.TCPAddr{IP: net.ParseIP(host), Port: p}
}

// Dial connects with a listener of any host.
func (h *host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.n
	for {
		n.mu.Lock()
		if h.dead {
			n.mu.Unlock()
			return nil, failure("dial", syscall.ENETDOWN)
		}
		var l *listener
		to := -1
		for rank, other := range n.hosts {
			if host, _, _ := net.SplitHostPort(addr); host == address(rank) {
				to = rank
				if !other.dead {
					l = other.listeners[addr]
				}
			}
		}
		if to < 0 {
			n.mu.Unlock()
			return nil, failure("dial", syscall.EHOSTUNREACH)
		}
		p := n.path(h.rank, to)
		wait := 2 * n.late(p)
		down := time.Until(p.until)
		if down <= 0 && l != nil {
			c := n.connect(h, l)
			n.mu.Unlock()
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				_ = c.Close()
				return nil, failure("dial", syscall.ETIMEDOUT)
			}
			select {
			case l.backlog <- c.peer:
				return c, nil
			case <-l.closed:
			default: // the backlog is full
			}
			_ = c.Close()
			return nil, failure("dial", syscall.ECONNREFUSED)
		}
		n.mu.Unlock()
		select {
		case <-time.After(max(wait, down)):
		case <-ctx.Done():
			return nil, failure("dial", syscall.ETIMEDOUT)
		}
		if down <= 0 {
			return nil, failure("dial", syscall.ECONNREFUSED)
		}
	}
}

// connect makes the two ends of a connection. The lock is held.
func (n *network) connect(from *host, l *listener) *conn {
	n.port++
	a := &conn{n: n, local: from, remote: l.h, laddr: tcpAddr(net.JoinHostPort(address(from.rank), strconv.Itoa(n.port))), raddr: l.addr}
	b := &conn{n: n, local: l.h, remote: from, laddr: l.addr, raddr: a.laddr}
	a.peer, b.peer = b, a
	a.more.L, b.more.L = &n.mu, &n.mu
	from.conns, l.h.conns = append(from.conns, a), append(l.h.conns, b)
	return a
}

// listener takes connections of other hosts.
type listener struct {
	h       *host
	addr    net.Addr
	backlog chan *conn
	closed  chan struct{}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	}
}

func (l *listener) Close() error {
	l.h.n.mu.Lock()
	defer l.h.n.mu.Unlock()
	l.shut()
	return nil
}

// shut closes the listener. The lock is held.
func (l *listener) shut() {
	if l.h.listeners[l.addr.String()] != l {
		return
	}
	delete(l.h.listeners, l.addr.String())
	close(l.closed)
	for {
		select {
		case c := <-l.backlog:
			c.peer.fail(syscall.ECONNRESET)
			c.fail(syscall.ECONNRESET)
		default:
			return
		}
	}
}

package bootstrap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// service is a launcher's, in this process.
type service struct {
	size int

	mu      sync.Mutex
	cond    sync.Cond
	values  map[string][]byte // after the fence
	pending map[string][]byte
	waiting int
	fences  int
	left    int
	gone    bool // a rank will never come
}

func newService(size int) *service {
	s := &service{size: size, values: make(map[string][]byte), pending: make(map[string][]byte)}
	s.cond.L = &s.mu
	return s
}

// end wakes who waits for a rank that will never come.
func (s *service) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.cond.Broadcast()
}

type client struct {
	*service
	rank int
}

func (c client) Size() int { return c.size }

func (c client) Put(key string, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[fmt.Sprint(key, c.rank)] = bytes.Clone(value)
	return nil
}

func (c client) Fence() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.fences
	if c.waiting++; c.waiting == c.size {
		for k, v := range c.pending {
			c.values[k] = v
		}
		c.waiting, c.fences = 0, c.fences+1
		c.cond.Broadcast()
	}
	for c.fences == n && !c.gone {
		c.cond.Wait()
	}
	return nil
}

func (c client) Get(rank int, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[fmt.Sprint(key, rank)]
	if !ok {
		return nil, errors.New("there is no such value")
	}
	return v, nil
}

func (c client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left++
	return nil
}

// findAll has ranks find each other through what ask opens.
func findAll(size int, r func(rank int) Request, ask func(rank int) (kvs, error)) ([]Found, []error) {
	found, errs := make([]Found, size), make([]error, size)
	var all sync.WaitGroup
	for rank := range size {
		all.Go(func() {
			p := &Place{Launcher: PMIx, Through: PMIx, Rank: rank, Size: size, ask: func() (kvs, error) { return ask(rank) }}
			found[rank], errs[rank] = p.Find(context.Background(), r(rank))
		})
	}
	all.Wait()
	return found, errs
}

// TestFind: all ranks get the address at which rank 0 listens, and one secret, which is another one each time.
func TestFind(t *testing.T) {
	secrets := make(map[string]bool)
	for _, size := range []int{2, 3, 8} {
		s := newService(size)
		found, errs := findAll(size, func(int) Request { return Request{} }, func(rank int) (kvs, error) { return client{s, rank}, nil })
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		l := found[0].Listener
		if l == nil {
			t.Fatal("rank 0 does not listen")
		}
		defer l.Close()
		for rank, f := range found {
			if f.Root != l.Addr().String() || !bytes.Equal(f.Secret, found[0].Secret) || len(f.Secret) != secretSize || rank > 0 && f.Listener != nil {
				t.Errorf("rank %d of %d: %+v, want %v", rank, size, f, found[0])
			}
		}
		if host, _, _ := net.SplitHostPort(l.Addr().String()); host != "127.0.0.1" {
			t.Errorf("all are on one machine, and rank 0 listens at %s", l.Addr())
		}
		if secrets[string(found[0].Secret)] {
			t.Error("a secret was used before")
		}
		secrets[string(found[0].Secret)] = true
		if s.left != size {
			t.Errorf("%d of %d have left the service", s.left, size)
		}
	}
}

// TestFindWhatUsersSay: what users say is not exchanged, and what is wrong on rank 0 is said by all.
func TestFindWhatUsersSay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	secret := []byte("0123456789abcdef")
	for _, c := range []struct {
		what       string
		r          func(rank int) Request
		root, want string // what every rank has, or says
		fences     int
	}{
		{"a secret", func(int) Request { return Request{Secret: secret} }, "", "", 2},
		{"a root", func(int) Request { return Request{Root: "n1:7"} }, "n1:7", "", 2},
		{"both", func(int) Request { return Request{Root: "n1:7", Secret: secret} }, "n1:7", "", 0},
		{"a port that is taken", func(int) Request { return Request{RootPort: port} }, "", "cannot listen", 2},
		{"a secret for rank 0 only", func(rank int) Request {
			if rank == 0 {
				return Request{Secret: secret}
			}
			return Request{}
		}, "", "rank 0 was given a secret", 2},
	} {
		s := newService(3)
		found, errs := findAll(3, c.r, func(rank int) (kvs, error) { return client{s, rank}, nil })
		for rank, f := range found {
			if f.Listener != nil {
				defer f.Listener.Close()
			}
			if rank == 0 && errs[0] == nil && c.want == "rank 0 was given a secret" {
				continue
			}
			if err := errs[rank]; c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: rank %d: %v", c.what, rank, err)
				}
				continue
			} else if err != nil {
				t.Errorf("%s: rank %d: %v", c.what, rank, err)
			}
			if c.root != "" && f.Root != c.root || c.r(1).Secret != nil && !bytes.Equal(f.Secret, secret) {
				t.Errorf("%s: rank %d: %+v", c.what, rank, f)
			}
		}
		if s.fences != c.fences {
			t.Errorf("%s: %d fences, want %d", c.what, s.fences, c.fences)
		}
		if c.r(1).Secret != nil {
			for _, v := range s.values {
				if bytes.Contains(v, []byte("MDEyMzQ1")) { // its beginning in base64
					t.Errorf("%s: the secret was exchanged: %s", c.what, v)
				}
			}
		}
	}
}

// TestFindTimes: a rank that waits for one that does not come ends when its time is up.
func TestFindTimes(t *testing.T) {
	s := newService(2)
	defer s.end()
	ctx, stop := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("it took longer than 50ms"))
	defer stop()
	p := &Place{Launcher: OpenMPI, Through: PMIx, Size: 2, ask: func() (kvs, error) { return client{s, 0}, nil }}
	if _, err := p.Find(ctx, Request{}); err == nil || !strings.Contains(err.Error(), "it took longer than 50ms") {
		t.Errorf("%v", err)
	}
}

// TestAsk: where the environment has no size the service has, and is not joined twice.
func TestAsk(t *testing.T) {
	for _, size := range []int{1, 2} {
		s := newService(size)
		var joined sync.Map
		var all sync.WaitGroup
		for rank := range size {
			all.Go(func() {
				p := &Place{Launcher: PMIx, Through: PMIx, Rank: rank, ask: func() (kvs, error) {
					if _, again := joined.LoadOrStore(rank, true); again {
						return nil, errors.New("joined twice")
					}
					return client{s, rank}, nil
				}}
				if err := p.Ask(t.Context()); err != nil || p.Size != size {
					t.Errorf("rank %d of %d: %d, %v", rank, size, p.Size, err)
				}
				if size == 1 {
					return
				}
				f, err := p.Find(t.Context(), Request{})
				if err != nil {
					t.Errorf("rank %d of %d: %v", rank, size, err)
				}
				if f.Listener != nil {
					_ = f.Listener.Close()
				}
			})
		}
		all.Wait()
		if s.left != size {
			t.Errorf("%d of %d have left", s.left, size)
		}
	}
}

// TestFindByEnvironment: without a service.
func TestFindByEnvironment(t *testing.T) {
	find := func(env string, r Request) (Found, error) {
		p, err := Detect(Auto, vars(env), Hints{Size: 3, PMIx: func() error { return errors.New("no libpmix") }})
		if err != nil {
			t.Fatal(err)
		}
		return p.Find(t.Context(), r)
	}
	secret := []byte("0123456789abcdef")
	f, err := find(mpirun+"OMPI_COMM_WORLD_RANK=0 PMIX_RANK=0 PMIX_NAMESPACE=77", Request{})
	if err != nil || f.Listener == nil || f.Listener.Addr().String() != f.Root || !local(f.Root) {
		t.Errorf("mpirun on one machine: %+v, %v", f, err)
	}
	if f.Listener != nil {
		if _, err := find(mpirun+"OMPI_COMM_WORLD_RANK=0 PMIX_RANK=0 PMIX_NAMESPACE=77", Request{}); err == nil || !strings.Contains(err.Error(), "--root-port") {
			t.Errorf("the port is taken: %v", err)
		}
		_ = f.Listener.Close()
	}
	if _, err := find(step, Request{}); err == nil || !strings.Contains(err.Error(), "export DOVETAIL_SECRET") || !strings.Contains(err.Error(), "--mpi=pmi2") {
		t.Errorf("no secret: %v", err)
	}
	if f, err := find(step, Request{Secret: secret}); err != nil || f.Root != "n1:20315" || f.Listener != nil {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := find(torchrun, Request{Secret: secret, Root: "n7:7"}); err != nil || f.Root != "n7:7" {
		t.Errorf("%+v, %v", f, err)
	}
}

func nets(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestChoose(t *testing.T) {
	routes := map[string]string{"10.2.0.9": "10.1.0.1", "10.3.0.9": "192.168.0.1", "10.4.0.9": "192.168.0.1"}
	route := func(to netip.Addr) (netip.Addr, error) {
		if a, ok := routes[to.String()]; ok {
			return netip.ParseAddr(a)
		}
		return netip.Addr{}, errors.New("no route")
	}
	own := nets("172.17.0.1/16", "10.1.0.1/16", "192.168.0.1/24")
	for _, c := range []struct {
		what   string
		others []card
		want   string
	}{
		{"alone", nil, "127.0.0.1"},
		{"all here", []card{{Stack: "a", Nets: nets("10.1.0.2/16")}}, "127.0.0.1"},
		{"the first network of all", []card{{Stack: "b", Nets: nets("172.17.0.1/16", "192.168.0.2/24", "10.1.0.2/16")}}, "10.1.0.1"},
		{"a network not all are in", []card{{Stack: "b", Nets: nets("10.1.0.2/16", "192.168.0.2/24")}, {Stack: "c", Nets: nets("192.168.0.3/24")}}, "192.168.0.1"},
		{"by a route", []card{{Stack: "b", Nets: nets("172.17.0.1/16", "10.2.0.9/16")}}, "10.1.0.1"},
		{"by most routes", []card{{Stack: "b", Nets: nets("10.2.0.9/16")}, {Stack: "c", Nets: nets("10.3.0.9/16")}, {Stack: "d", Nets: nets("10.4.0.9/16")}}, "192.168.0.1"},
		{"no way", []card{{Stack: "b", Nets: nets("10.9.0.9/16")}}, ""},
		{"no address", []card{{Stack: "b"}}, ""},
	} {
		got, err := choose(card{Stack: "a", Nets: own}, c.others, route)
		if (err == nil) != (c.want != "") || err == nil && got.String() != c.want {
			t.Errorf("%s: %v, %v, want %q", c.what, got, err, c.want)
		}
	}
}

func TestDataHost(t *testing.T) {
	if got, err := DataHost("lo", 0, nil); err != nil || got != "127.0.0.1" {
		t.Errorf("lo: %q, %v", got, err)
	}
	for i, want := range []string{"a", "b", "10.0.0.7", "a"} {
		if got, err := DataHost("a, b,10.0.0.7", i, nil); err != nil || got != want {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	if got, err := DataHost("", 3, nil); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
	// Of interfaces the nearest, and of equally near ones by number.
	both := func(names []string) []string { return names[1:] }
	for text, want := range map[string]string{"nothing,lo": "nothing", "lo,lo": "127.0.0.1", "lo": "127.0.0.1"} {
		if got, err := DataHost(text, 4, both); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, own := range networks("") {
		if got, err := DataHost(own.Masked().String(), 0, nil); err != nil || !own.Masked().Contains(netip.MustParseAddr(got)) {
			t.Errorf("%v: %q, %v", own, got, err)
		}
	}
	for _, text := range []string{"203.0.113.0/24", "no such", "10.0.0.0/99", "a,,b"} {
		if got, err := DataHost(text, 1, nil); err == nil && got != "b" {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// pmiServer plays the launcher's side of PMI for one rank, as MPICH's mpiexec does.
func pmiServer(t *testing.T, conn net.Conn, kv client) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := make(map[string]string)
		for word := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(word, "=")
			words[name] = value
		}
		answer := ""
		switch words["cmd"] {
		case "init":
			answer = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0"
		case "get_maxes":
			answer = "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024"
		case "get_my_kvsname":
			answer = "cmd=my_kvsname kvsname=kvs_7_0"
		case "put":
			_ = kv.Put(words["key"], []byte(words["value"]))
			answer = "cmd=put_result rc=0 msg=success"
		case "barrier_in":
			_ = kv.Fence()
			answer = "cmd=barrier_out rc=0"
		case "get":
			kv.mu.Lock()
			answer = "cmd=get_result rc=-1 msg=key_not_found value=unknown"
			for rank := range kv.size {
				if v, ok := kv.values[fmt.Sprint(words["key"], rank)]; ok {
					answer = "cmd=get_result rc=0 msg=success value=" + string(v)
				}
			}
			kv.mu.Unlock()
		case "finalize":
			_ = kv.Close()
			answer = "cmd=finalize_ack"
		default:
			t.Errorf("%q", line)
		}
		if _, err := io.WriteString(conn, answer+"\n"); err != nil {
			return
		}
	}
}

// TestPMI: the same through lines on a pipe.
func TestPMI(t *testing.T) {
	const size = 4
	s := newService(size)
	found, errs := findAll(size, func(int) Request { return Request{} }, func(rank int) (kvs, error) {
		here, there := net.Pipe()
		go pmiServer(t, there, client{s, rank})
		return newPMI(here, rank, size)
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	defer found[0].Listener.Close()
	for rank, f := range found {
		if f.Root != found[0].Root || !bytes.Equal(f.Secret, found[0].Secret) || len(f.Secret) != secretSize {
			t.Errorf("rank %d: %+v", rank, f)
		}
	}
	if s.left != size {
		t.Errorf("%d have left", s.left)
	}
}

// TestPMIErrors: a launcher that answers something else, or nothing, is an error.
func TestPMIErrors(t *testing.T) {
	for _, answers := range []string{"", "cmd=response_to_init rc=1\n", "nonsense\n", "cmd=response_to_init rc=0\ncmd=maxes vallen_max=x\n"} {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			_, _ = io.WriteString(there, answers)
		}()
		if _, err := newPMI(here, 0, 2); err == nil {
			t.Errorf("%q: no error", answers)
		}
	}
	if _, err := openPMI(1, 0, 2); err == nil {
		t.Error("standard output is taken for the launcher")
	}
}

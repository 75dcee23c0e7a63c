package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Request is what the user said about how the ranks find each other. It comes before what a launcher says.
type Request struct {
	// Root is the address (host:port) of rank 0; empty if the launcher is to be asked.
	Root string
	// RootPort is the port at which rank 0 listens; 0 leaves it to the launcher.
	RootPort int
	// Secret is the job's; nil if the launcher is to be asked.
	Secret []byte
	// DataHost is the address of this process that others are to use, or empty.
	DataHost string
	// Listen opens the port of rank 0; nil means the system's TCP.
	Listen func(addr string) (net.Listener, error)
}

func (r *Request) listen(host, port string) (net.Listener, error) {
	addr := net.JoinHostPort(host, port)
	if r.Listen != nil {
		return r.Listen(addr)
	}
	return net.Listen("tcp", addr)
}

// Found is how the ranks find each other.
type Found struct {
	// Root is the address of rank 0.
	Root string
	// Listener is where rank 0 listens already; nil on other ranks, and where it is to listen at Root.
	Listener net.Listener
	// Secret is the job's, or nil.
	Secret []byte
}

// Ask fills in what only the launcher's service can tell, if something is missing. The service is left by [Place.Find].
func (p *Place) Ask(ctx context.Context) error {
	if p.Size > 0 {
		return nil
	}
	kv, err := serve(ctx, p, func(kv kvs) (kvs, error) { return kv, nil })
	if err != nil {
		return err
	}
	if p.Size = kv.Size(); p.Size < 2 {
		if err := kv.Close(); err != nil || p.Size == 1 {
			return err
		}
		return fmt.Errorf("%v does not say how many ranks there are: give --rank and --size", p)
	}
	p.open = kv
	return p.check()
}

// Find lets the ranks find each other. All ranks call it; it returns when the launcher has carried what it must between them, or
// when ctx ends. The launcher's service is left when it returns.
func (p *Place) Find(ctx context.Context, r Request) (f Found, err error) {
	if p.ask != nil && (r.Root == "" || len(r.Secret) == 0) {
		return serve(ctx, p, func(kv kvs) (Found, error) {
			f, err := exchange(kv, p.Rank, r, thisMachine(r.DataHost))
			return f, errors.Join(err, kv.Close())
		})
	}
	f = Found{Root: r.Root, Secret: r.Secret}
	if f.Root == "" {
		if f.Root, err = p.root(r.RootPort); err != nil {
			return f, err
		}
	}
	if len(f.Secret) == 0 && p.Size > 1 && !local(f.Root) {
		return f, fmt.Errorf("%s started %d ranks, and nothing gives them a secret: export DOVETAIL_SECRET=$(openssl rand -hex 32) before it, "+
			"or give --secret-file%s", p.who(), p.Size, p.better())
	}
	if p.Rank == 0 && p.Size > 1 && (r.Root == "" || p.Launcher == Kubernetes) {
		f.Listener, err = p.listen(&r, f.Root)
	}
	return f, err
}

// who is the launcher in a sentence.
func (p *Place) who() string {
	switch p.Launcher {
	case Slurm:
		return "srun"
	case OpenMPI:
		return "mpirun"
	case PMI:
		return "mpiexec"
	case Kubernetes:
		return "Kubernetes"
	case Env:
		return "whoever set RANK and WORLD_SIZE"
	}
	return "the launcher"
}

// better says how a launcher would give the ranks a secret.
func (p *Place) better() string {
	switch p.Launcher {
	case Slurm:
		return "; or use srun --mpi=pmi2, or --mpi=pmix with a build that has PMIx"
	case OpenMPI:
		return "; or use a build that has PMIx"
	}
	return ""
}

// local reports whether an address is certainly one of this machine only.
func local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// root is where rank 0 is to be found according to the environment.
func (p *Place) root(port int) (string, error) {
	if p.Root != "" {
		host, _, err := net.SplitHostPort(p.Root)
		if err != nil {
			return "", fmt.Errorf("%v: the address of rank 0, %q: %w", p, p.Root, err)
		}
		if port == 0 {
			return p.Root, nil
		}
		return net.JoinHostPort(host, strconv.Itoa(port)), nil
	}
	if port == 0 {
		port = p.port
	}
	switch {
	case p.Size == 1:
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
	case port == 0:
	case p.Nodes == 1:
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
	case p.first == "":
	case p.Rank == 0 && p.Node != "" && p.Node != p.first:
		return "", fmt.Errorf("rank 0 is on %s and not on the first node of the step, %s, so others would look for it in the wrong place: "+
			"leave out --distribution, use srun --mpi=pmi2 or --mpi=pmix, or give --root", p.Node, p.first)
	default:
		return net.JoinHostPort(p.first, strconv.Itoa(port)), nil
	}
	what := "give its address, host:port, to all ranks with --root or DOVETAIL_ROOT"
	switch p.Launcher {
	case Kubernetes:
		what = "set DOVETAIL_ROOT in the pods, such as NAME-0.NAME:7600 with NAME the Job's and that of its headless service"
	case OpenMPI:
		what += ", or use a build that has PMIx"
	}
	return "", fmt.Errorf("%s does not say where rank 0 is: %s", p.who(), what)
}

// listen opens the port of rank 0. What others call this node may here be a name for loopback, or one that is not known yet; so an
// address is chosen through which this node reaches others.
func (p *Place) listen(r *Request, root string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(root)
	if err != nil {
		return nil, err
	}
	switch {
	case local(root):
	case p.Launcher == Slurm && p.other != "":
		ip, err := routeTo(p.other)
		if err != nil {
			return nil, fmt.Errorf("rank 0 on %s finds no way to %s: %w; give --root", p.Node, p.other, err)
		}
		host = ip.String()
	case p.Launcher == Kubernetes:
		if host, err = ownName(); err != nil {
			return nil, err
		}
	}
	l, err := r.listen(host, port)
	if err != nil {
		return nil, fmt.Errorf("rank 0 cannot listen: %w%s", err, p.otherPort(err))
	}
	return l, nil
}

func (p *Place) otherPort(err error) string {
	var op *net.OpError
	if p.port != 0 && errors.As(err, &op) {
		return "; give another port with --root-port"
	}
	return ""
}

// serve calls work with the launcher's service. If ctx ends before, work goes on by itself: the libraries of launchers cannot be
// interrupted.
func serve[T any](ctx context.Context, p *Place, work func(kv kvs) (T, error)) (result T, err error) {
	type outcome struct {
		result T
		err    error
	}
	done := make(chan outcome, 1)
	kv := p.open
	p.open = nil
	go func() {
		var o outcome
		if kv == nil {
			kv, o.err = p.ask()
		}
		if o.err == nil {
			o.result, o.err = work(kv)
		}
		done <- o
	}()
	select {
	case o := <-done:
		if o.err != nil {
			err = fmt.Errorf("%v: %w", p, o.err)
		}
		return o.result, err
	case <-ctx.Done():
		return result, fmt.Errorf("%v: the ranks do not find each other: %w; one may not have started, or may have stopped before", p, context.Cause(ctx))
	}
}

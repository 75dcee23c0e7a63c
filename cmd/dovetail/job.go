package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/bootstrap"
	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
)

// jobFlags make a process one rank of several. Those that differ from rank to rank, or from cluster to cluster, have a variable of the
// environment, too.
type jobFlags struct {
	launcher    string
	rank, size  int
	rootPort    int
	root        string
	secretFile  string
	dataHost    string
	dataPorts   string
	ports       tcp.PortRange // of dataPorts
	public      bool
	warning     string // about the secret file
	onRankLoss  string
	isolation   string
	transport   string
	rankTimeout time.Duration
	joinTimeout time.Duration

	place *bootstrap.Place // where a launcher has put this process; nil if there is none, or flags say it all
	// stay, if not nil, has this process be near what it computes with, as [deviceFlags.stay] does.
	stay func(fl *pflag.FlagSet, p *bootstrap.Place) (near func(interfaces []string) []string, err error)
}

const (
	lossContinue = "continue"
	lossStop     = "stop"
)

func (f *jobFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.launcher, launcherFlag, bootstrap.Auto, "what has started the ranks, each with the same command: "+strings.Join(bootstrap.Names(), ", ")+
		"; auto asks the environment, none does not ($DOVETAIL_LAUNCHER)")
	fl.IntVar(&f.rank, "rank", 0, "with --size, where no launcher says it: number of this process, from 0 ($DOVETAIL_RANK)")
	fl.IntVar(&f.size, "size", 0, "processes that do the work together, where no launcher says it: each is started with the same options and its --rank ($DOVETAIL_SIZE)")
	fl.StringVar(&f.root, "root", "", "host:port at which rank 0 listens and the others find it, where no launcher says it ($DOVETAIL_ROOT)")
	fl.IntVar(&f.rootPort, "root-port", 0, "port at which rank 0 listens, where a launcher says the host (default: by the launcher; $DOVETAIL_ROOT_PORT)")
	fl.StringVar(&f.secretFile, "secret-file", "", "file with 16 or more random bytes, the same for all ranks, which encrypts: needed off this machine unless the launcher gives them one ($DOVETAIL_SECRET_FILE, or the secret itself in $DOVETAIL_SECRET)")
	fl.StringVar(&f.dataHost, "data-host", "", "where other ranks reach this one for data: a network interface such as ib0, a network such as 10.1.0.0/16, a host or an address; of several with commas one, of interfaces those that are nearest to the GPU of the rank if that is known, else by the number on the node (default: as it reaches rank 0; $DOVETAIL_DATA_HOST)")
	fl.StringVar(&f.dataPorts, "data-ports", "", "ports at which ranks listen that are not told another, such as 40000-40999, for a firewall (default: any; $DOVETAIL_DATA_PORTS)")
	fl.BoolVar(&f.public, "listen-public", false, "let this rank listen at public addresses, or at all addresses of its machine (default: at private ones only)")
	addTransport(fl, &f.transport)
	fl.StringVar(&f.onRankLoss, "on-rank-loss", lossContinue, "when a rank is lost: continue without it, or stop; rank 0 cannot be done without")
	fl.DurationVar(&f.rankTimeout, "rank-timeout", 10*time.Second, "how long a rank, or the process of a worker, may be silent before it is lost")
	fl.DurationVar(&f.joinTimeout, "join-timeout", time.Minute, "how long ranks, or the processes of workers, wait for each other at the start")
}

// addIsolation adds the flag of commands whose workers can be processes.
func (f *jobFlags) addIsolation(fl *pflag.FlagSet) {
	fl.StringVar(&f.isolation, "isolation", dedup.IsolationGoroutine, "where workers work: goroutine, or process to give each a process of its own, which is replaced if it is killed, runs out of memory or goes silent; not with --size")
}

// environ fills in what the command line does not say.
func (f *jobFlags) environ(fl *pflag.FlagSet) error {
	number := func(flag, name string, to *int) error {
		v := os.Getenv(name)
		if v == "" || fl.Changed(flag) {
			return nil
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("$%s is %q: give a number", name, v)
		}
		*to = n
		return nil
	}
	text := func(flag, name string, to *string) {
		if v := os.Getenv(name); v != "" && !fl.Changed(flag) {
			*to = v
		}
	}
	text("root", "DOVETAIL_ROOT", &f.root)
	text("secret-file", "DOVETAIL_SECRET_FILE", &f.secretFile)
	text("data-host", "DOVETAIL_DATA_HOST", &f.dataHost)
	text("data-ports", "DOVETAIL_DATA_PORTS", &f.dataPorts)
	return errors.Join(number("rank", "DOVETAIL_RANK", &f.rank), number("size", "DOVETAIL_SIZE", &f.size),
		number("root-port", "DOVETAIL_ROOT_PORT", &f.rootPort))
}

// secret is what the ranks share, nil if nothing was given.
func (f *jobFlags) secret() ([]byte, error) {
	if f.secretFile != "" {
		return f.readSecret()
	}
	return []byte(os.Getenv("DOVETAIL_SECRET")), nil
}

// alone refuses what makes a process one rank of several where its workers are to be processes.
func (f *jobFlags) alone(fl *pflag.FlagSet) error {
	if f.size != 0 {
		return errors.New("--isolation process and --size: the processes of a job that is started by hand share nothing but their rank; " +
			"give one of the two, or start one process per worker with --size and --workers 1")
	}
	for _, name := range []string{"on-rank-loss", "data-host", "data-ports", "listen-public"} {
		if fl.Changed(name) {
			return fmt.Errorf("--%s has no meaning with --isolation process: all are on this machine, and who is lost is replaced", name)
		}
	}
	return nil
}

// isolate says how workers get processes of their own.
func (f *jobFlags) isolate(workers int, note func(string)) executor.Isolation {
	return executor.Isolation{Actors: workers, Silence: f.rankTimeout, JoinTimeout: f.joinTimeout, Note: note}
}

// config says which rank this process is; nil means that it is alone. Faults are of the command line.
func (f *jobFlags) config(cmd *cobra.Command, workers int) (*executor.JobConfig, error) {
	if err := f.environ(cmd.Flags()); err != nil {
		return nil, err
	}
	var err error
	if f.ports, err = tcp.ParsePortRange(f.dataPorts); err != nil {
		return nil, fmt.Errorf("--data-ports %q: %w", f.dataPorts, err)
	}
	if err := f.launched(cmd); err != nil {
		return nil, err
	}
	if f.isolation == dedup.IsolationProcess {
		if err := f.alone(cmd.Flags()); err != nil {
			return nil, err
		}
	}
	if f.size <= 0 {
		if f.size < 0 || f.root != "" || f.rank != 0 || f.secretFile != "" {
			return nil, errors.New("--rank, --root and --secret-file need --size, the number of processes, at least 1, or a launcher that says it; " +
				"none was found")
		}
		return nil, nil
	}
	if f.rank < 0 || f.rank >= f.size {
		return nil, fmt.Errorf("--rank %d: must be from 0 to %d with --size %d", f.rank, f.size-1, f.size)
	}
	if f.root == "" && f.size > 1 && f.place == nil {
		return nil, errors.New("--root: give host:port at which rank 0 listens, the same for all ranks")
	}
	if cmd.Flags().Changed("ranks") {
		if f.place != nil {
			return nil, fmt.Errorf("--ranks: %v has started %d ranks already, and a rank has no more of them; leave it out, or give --launcher none", f.place, f.size)
		}
		return nil, errors.New("--ranks and --size: a process that is one rank of several has no more of them; give one of the two")
	}
	if f.rootPort < 0 || f.rootPort > 65535 {
		return nil, fmt.Errorf("--root-port %d: must be from 1 to 65535", f.rootPort)
	}
	if f.rootPort != 0 && f.root != "" {
		return nil, errors.New("--root-port and --root: the port is in --root; give one of the two")
	}
	if f.onRankLoss != lossContinue && f.onRankLoss != lossStop {
		return nil, fmt.Errorf("--on-rank-loss %q: must be %s or %s", f.onRankLoss, lossContinue, lossStop)
	}
	c := &executor.JobConfig{
		Rank: f.rank, Size: f.size, Root: f.root, Workers: workers, Silence: f.rankTimeout,
		JoinTimeout: f.joinTimeout, StopOnLoss: f.onRankLoss == lossStop, Public: f.public, Version: version(),
	}
	local := 0
	if f.place != nil {
		local = f.place.LocalRank
		c.Find, c.Launcher, c.Host = f.find, f.place.String(), f.place.Node
	}
	var near func([]string) []string
	if f.stay != nil {
		if near, err = f.stay(cmd.Flags(), f.place); err != nil {
			return nil, err
		}
	}
	if c.DataHost, err = bootstrap.DataHost(f.dataHost, local, near); err != nil {
		return nil, fmt.Errorf("--data-host: %w", err)
	}
	c.Network = f.ports.Network(tcp.System)
	c.Secret, err = f.secret()
	return c, err
}

// mostSecret is how long a secret may be: whoever names another file by mistake is told so.
const mostSecret = 4 << 10

// readSecret reads the file of the secret. Spaces and ends of lines around it do not count, as editors add them.
func (f *jobFlags) readSecret() ([]byte, error) {
	file, err := os.Open(f.secretFile)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, mostSecret+1))
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	if len(b) > mostSecret {
		return nil, fmt.Errorf("--secret-file %s has more than %d bytes: is it another file?", f.secretFile, mostSecret)
	}
	b = bytes.TrimSpace(b)
	if err := jobtls.CheckSecret(b); err != nil {
		return nil, fmt.Errorf("--secret-file %s: %w", f.secretFile, err)
	}
	if st, err := file.Stat(); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		f.warning = fmt.Sprintf("the secret in %s can be read by others than its owner (%v): chmod 600", f.secretFile, st.Mode().Perm())
	}
	return b, nil
}

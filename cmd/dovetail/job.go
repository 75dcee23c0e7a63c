package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
)

// jobFlags make a process one rank of several. Each has an environment variable for launchers, such as DOVETAIL_RANK.
type jobFlags struct {
	rank, size  int
	root        string
	secretFile  string
	dataHost    string
	onRankLoss  string
	isolation   string
	transport   string
	rankTimeout time.Duration
	joinTimeout time.Duration
}

const (
	lossContinue = "continue"
	lossStop     = "stop"
)

func (f *jobFlags) add(fl *pflag.FlagSet) {
	fl.IntVar(&f.rank, "rank", 0, "with --size: number of this process, from 0 ($DOVETAIL_RANK)")
	fl.IntVar(&f.size, "size", 0, "processes that do the work together, each started with the same options and its --rank ($DOVETAIL_SIZE)")
	fl.StringVar(&f.root, "root", "", "with --size: host:port at which rank 0 listens and the others find it ($DOVETAIL_ROOT)")
	fl.StringVar(&f.secretFile, "secret-file", "", "file with 16 or more random bytes, the same for all ranks: needed off this machine, and encrypts ($DOVETAIL_SECRET_FILE)")
	fl.StringVar(&f.dataHost, "data-host", "", "host or address at which other ranks reach this one for data (default: as it reaches rank 0; $DOVETAIL_DATA_HOST)")
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
	return errors.Join(number("rank", "DOVETAIL_RANK", &f.rank), number("size", "DOVETAIL_SIZE", &f.size))
}

// alone refuses what makes a process one rank of several where its workers are to be processes.
func (f *jobFlags) alone(fl *pflag.FlagSet) error {
	if f.size != 0 {
		return errors.New("--isolation process and --size: the processes of a job that is started by hand share nothing but their rank; " +
			"give one of the two, or start one process per worker with --size and --workers 1")
	}
	for _, name := range []string{"on-rank-loss", "data-host"} {
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
	if f.isolation == dedup.IsolationProcess {
		if err := f.alone(cmd.Flags()); err != nil {
			return nil, err
		}
	}
	if f.size <= 0 {
		if f.size < 0 || f.root != "" || f.rank != 0 || f.secretFile != "" {
			return nil, errors.New("--rank, --root and --secret-file need --size, the number of processes, at least 1")
		}
		return nil, nil
	}
	if f.rank < 0 || f.rank >= f.size {
		return nil, fmt.Errorf("--rank %d: must be from 0 to %d with --size %d", f.rank, f.size-1, f.size)
	}
	if f.root == "" && f.size > 1 {
		return nil, errors.New("--root: give host:port at which rank 0 listens, the same for all ranks")
	}
	if cmd.Flags().Changed("ranks") {
		return nil, errors.New("--ranks and --size: a process that is one rank of several has no more of them; give one of the two")
	}
	if f.onRankLoss != lossContinue && f.onRankLoss != lossStop {
		return nil, fmt.Errorf("--on-rank-loss %q: must be %s or %s", f.onRankLoss, lossContinue, lossStop)
	}
	c := &executor.JobConfig{
		Rank: f.rank, Size: f.size, Root: f.root, DataHost: f.dataHost, Workers: workers, Silence: f.rankTimeout,
		JoinTimeout: f.joinTimeout, StopOnLoss: f.onRankLoss == lossStop,
	}
	if f.secretFile != "" {
		b, err := os.ReadFile(f.secretFile)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		c.Secret = bytes.TrimSpace(b)
	}
	return c, nil
}

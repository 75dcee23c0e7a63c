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
	"github.com/dovetail-dedup/dovetail/internal/jobtls"
)

// jobFlags make a process one rank of several. Each has an environment variable for launchers, such as DOVETAIL_RANK.
type jobFlags struct {
	rank, size  int
	root        string
	secretFile  string
	dataHost    string
	dataPorts   string
	public      bool
	warning     string // about the secret file
	onRankLoss  string
	isolation   string
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
	fl.StringVar(&f.dataPorts, "data-ports", "", "ports at which other ranks reach this one for data, as 7701-7799, one at a time: for a firewall (default: any; $DOVETAIL_DATA_PORTS)")
	fl.BoolVar(&f.public, "listen-public", false, "let this rank listen at public addresses, or at all addresses of its machine (default: at private ones only)")
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
	return errors.Join(number("rank", "DOVETAIL_RANK", &f.rank), number("size", "DOVETAIL_SIZE", &f.size))
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
		JoinTimeout: f.joinTimeout, StopOnLoss: f.onRankLoss == lossStop, Public: f.public, Version: version(),
	}
	var err error
	if c.DataPorts, err = parsePorts(f.dataPorts); err != nil {
		return nil, err
	}
	if f.secretFile != "" {
		if c.Secret, err = f.readSecret(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// parsePorts reads a port or a range of them; nothing means any.
func parsePorts(text string) (ports [2]int, err error) {
	if text == "" {
		return ports, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	for i, s := range []string{first, last} {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 || int(n) < ports[0] {
			return ports, fmt.Errorf("--data-ports %q: give ports from 1 to 65535, as 7701-7799", text)
		}
		ports[i] = int(n)
	}
	return ports, nil
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

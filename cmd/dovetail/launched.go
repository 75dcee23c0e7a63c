package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/bootstrap"
	"github.com/dovetail-dedup/dovetail/internal/locality"
)

// What a launcher says about this process, where flags do not say it.

const launcherFlag = "launcher"

// given returns the value of a flag, or of the variable that has its place, and "" if neither is set.
func given(fl *pflag.FlagSet, flag, variable string) string {
	if f := fl.Lookup(flag); f != nil && f.Changed {
		return f.Value.String()
	}
	return os.Getenv(variable)
}

// detect asks which launcher has started this process; nil means none, or that flags or variables of our own say rank and size.
func detect(fl *pflag.FlagSet) (*bootstrap.Place, error) {
	if executor.Isolated() || fl.Lookup(launcherFlag) == nil {
		return nil, nil // the process that started it has spoken for it, or it is a command without ranks
	}
	size, rank := given(fl, "size", "DOVETAIL_SIZE"), given(fl, "rank", "DOVETAIL_RANK")
	if size != "" && rank != "" {
		return nil, nil
	}
	name := given(fl, launcherFlag, "DOVETAIL_LAUNCHER")
	if name == "" {
		name = bootstrap.Auto
	}
	h := bootstrap.Hints{}
	if size != "" {
		h.Size, _ = strconv.Atoi(size) // what it is instead is said elsewhere
	}
	p, err := bootstrap.Detect(name, os.Getenv, h)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", launcherFlag, err)
	}
	if p != nil && h.Size != 0 && p.Size != 0 && p.Size != h.Size {
		return nil, fmt.Errorf("--size %d, but %v has started %d ranks; leave it out, or give --rank too", h.Size, p, p.Size)
	}
	return p, nil
}

// launched takes rank and size from the launcher, if there is one.
func (f *jobFlags) launched(cmd *cobra.Command) error {
	p, err := detect(cmd.Flags())
	if err != nil || p == nil {
		return err
	}
	ctx, stop := context.WithTimeoutCause(cmd.Context(), f.joinTimeout, fmt.Errorf("it took longer than %v", f.joinTimeout))
	defer stop()
	if err := p.Ask(ctx); err != nil {
		return err
	}
	if p.Size == 1 && (f.isolation == dedup.IsolationProcess || cmd.Flags().Changed("ranks")) {
		return nil // it is alone, and has ranks of its own
	}
	f.place, f.rank, f.size = p, p.Rank, p.Size
	return f.apart(cmd.Flags())
}

// apart keeps ranks that were given the same command out of each other's way.
func (f *jobFlags) apart(fl *pflag.FlagSet) error {
	if log := given(fl, "event-log", ""); log != "" && f.rank > 0 {
		if err := fl.Set("event-log", fmt.Sprintf("%s.%d", log, f.rank)); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(given(fl, "metrics-addr", ""))
	if err != nil {
		return nil // there is none, or it is refused elsewhere
	}
	if n, err := strconv.Atoi(port); err == nil && n > 0 {
		return fl.Set("metrics-addr", net.JoinHostPort(host, strconv.Itoa(n+f.place.LocalRank)))
	}
	return nil
}

// find is [executor.JobConfig].Find.
func (f *jobFlags) find(ctx context.Context, c *executor.JobConfig) error {
	if c.Note != nil {
		for _, line := range f.place.Notes {
			c.Note(line)
		}
	}
	if c.Size == 1 {
		return nil
	}
	found, err := f.place.Find(ctx, bootstrap.Request{Root: c.Root, RootPort: f.rootPort, Secret: c.Secret, DataHost: c.DataHost, Listen: c.Network.Listen})
	if err != nil {
		return err
	}
	c.Root, c.Listener, c.Secret = found.Root, found.Listener, found.Secret
	return nil
}

// name is that of a job: those of two steps of a launcher differ, should they meet at one port.
func (f *jobFlags) name(command string) string {
	if f.place == nil || f.place.Job == "" {
		return command
	}
	return command + " of " + f.place.Launcher + " job " + f.place.Job
}

// notJoined adds to the error of a rank that could not join what may be the matter if a launcher was found.
func notJoined(jc *executor.JobConfig, err error) error {
	if err == nil || jc.Launcher == "" || jc.Size == 1 {
		return err
	}
	return fmt.Errorf("%w; this is rank %d of %d by %s: if it is meant to work alone give --%s none", err, jc.Rank, jc.Size, jc.Launcher, launcherFlag)
}

// shareCPUs makes this process use only as many CPUs as are for it, unless the user says how many.
func shareCPUs(fl *pflag.FlagSet) error {
	if os.Getenv("GOMAXPROCS") != "" || fl.Changed("workers") {
		return nil
	}
	p, err := detect(fl)
	if err != nil || p == nil {
		return err
	}
	if n := p.Workers(runtime.GOMAXPROCS(0), machineCPUs()); n < runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
	return nil
}

// machineCPUs is how many CPUs there are for all ranks on this machine together: those that are online, but no more than a quota
// allows, which is most likely that of a container that they are all in.
func machineCPUs() int {
	n := runtime.NumCPU()
	if quota := runtime.GOMAXPROCS(0); quota < n {
		return quota
	}
	if b, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil {
		n = max(n, len(locality.ParseCPUs(strings.TrimSpace(string(b)))))
	}
	return n
}

// launchers says which launchers can start ranks, and which has started this process.
func launchers() []string {
	lines := []string{"started by mpirun, srun, an Indexed Job of Kubernetes, or anything that says rank and size; docs/cluster.md has how"}
	if err := bootstrap.PMIxAvailable(); err != nil {
		lines = append(lines, "PMIx: "+oneLine(err))
	} else {
		lines = append(lines, "PMIx: libpmix is here")
	}
	size, _ := strconv.Atoi(os.Getenv("DOVETAIL_SIZE"))
	p, err := bootstrap.Detect(bootstrap.Auto, os.Getenv, bootstrap.Hints{Size: size})
	switch {
	case err != nil:
		lines = append(lines, "this process: "+oneLine(err))
	case p != nil:
		lines = append(lines, "this process: "+p.Describe())
		lines = append(lines, p.Notes...)
	}
	return lines
}

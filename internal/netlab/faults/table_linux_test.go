package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"
)

// fault is what goes wrong, and how it has to end.
type fault struct {
	name string
	long bool     // of cables that can delay and lose
	rate int64    // of every link, in bits per second; 0 for no limit
	args []string // of every rank
	only string   // the transport with which it is tried, if it is the same with all
	// prepare is called before any rank is started, before when rank 0 is and the others are not, strike when all are.
	prepare, before, strike func(j *job)
	// heal mends what is broken. It is called when all ranks have ended that can.
	heal func(j *job)
	// dead are ranks of which nothing is expected: they are killed or stopped.
	dead []int
	// lost are ranks that the job goes on without, and that say so themselves.
	lost []int
	// stops says that the job cannot go on.
	stops bool
	// says is what rank 0 says of it, or, if the job stops, what all say.
	says string
	// limit is how long it may take, from the strike to the end, on a machine that has nothing else to do.
	limit time.Duration
}

// busy is how many times as long everything may take on a machine that has other things to do.
const busy = 3

// some is a part of the bytes that cross a link in an undisturbed run, and far more than all the talk about tasks.
const some = 300_000

// patient is for what no rank should be lost over: lost packets are sent again after ever longer waits, and a busy machine adds to them.
var patient = []string{"--rank-timeout", "6s"}

func (j *job) kill(rank int, s syscall.Signal) {
	j.Helper()
	j.must(j.ranks[rank].Process.Signal(s))
}

// table is what can go wrong. Ranks are lost after 2 s, or 6 if they are patient; what is to be lived through is shorter.
var table = []fault{
	{name: "undisturbed", limit: 30 * time.Second},
	{name: "killed", dead: []int{2}, limit: 15 * time.Second, says: `rank 2 on \S+ is lost: its connection`, strike: func(j *job) {
		j.flow(2, some)
		j.kill(2, syscall.SIGKILL)
	}},
	{name: "root killed", dead: []int{0}, stops: true, limit: 10 * time.Second, says: `rank 0 on \S+: its connection.*run the job again`, strike: func(j *job) {
		j.flow(0, some)
		j.kill(0, syscall.SIGKILL)
	}},
	{name: "two killed", dead: []int{1, 3}, limit: 15 * time.Second, says: `rank [13] on \S+ is lost(.|\n)*rank [13] on \S+ is lost`, strike: func(j *job) {
		j.flow(1, some)
		j.kill(1, syscall.SIGKILL)
		j.flow(2, 2*some)
		j.kill(3, syscall.SIGKILL)
	}},
	{name: "stopped", dead: []int{2}, limit: 20 * time.Second, says: `rank 2 on \S+ is lost: it was silent for 2s`, strike: func(j *job) {
		j.flow(2, some)
		j.kill(2, syscall.SIGSTOP)
	}},
	{name: "stopped for a moment", args: patient, limit: 30 * time.Second, strike: func(j *job) {
		j.flow(2, some)
		j.kill(2, syscall.SIGSTOP)
		<-time.After(700 * time.Millisecond)
		j.kill(2, syscall.SIGCONT)
	}},
	{name: "root stopped", dead: []int{0}, stops: true, limit: 10 * time.Second, says: `rank 0 on \S+: it was silent for 2s.*run the job again`, strike: func(j *job) {
		j.flow(0, some)
		j.kill(0, syscall.SIGSTOP)
	}},
	{name: "cut off", lost: []int{3}, limit: 25 * time.Second, says: `rank 3 on \S+ is lost: it was silent`, strike: func(j *job) {
		j.flow(3, some)
		j.must(j.lab.Cut(3))
	}},
	{name: "cut off and back too late", lost: []int{1}, limit: 25 * time.Second, says: `rank 1 on \S+ is lost: it was silent`, strike: func(j *job) {
		j.flow(1, some)
		j.must(j.lab.Cut(1))
		j.ranks[0].hears(j, `rank 1 on \S+ is lost`)
		j.must(j.lab.Mend(1))
	}},
	{name: "cut off for a moment", args: patient, rate: 20e6, limit: 40 * time.Second, strike: func(j *job) {
		for range 2 {
			j.flow(2, j.crossed(2)+some/2)
			j.must(j.lab.Cut(2))
			<-time.After(500 * time.Millisecond)
			j.must(j.lab.Mend(2))
		}
	}},
	{name: "root cut off", lost: []int{1, 2, 3}, limit: 30 * time.Second, says: `rank [123] on \S+ is lost: it was silent`, strike: func(j *job) {
		j.flow(0, some)
		j.must(j.lab.Cut(0))
	}},
	{name: "two cut off from each other", stops: true, limit: 40 * time.Second, says: `links between ranks broke 3 times.*ranks? [12]`,
		strike: func(j *job) {
			j.flow(1, some)
			j.must(j.lab.Part(1, 2))
		}, heal: func(j *job) { j.must(j.lab.Join(1, 2)) }},
	{name: "two cut off from each other for a moment", args: patient, rate: 20e6, limit: 40 * time.Second, strike: func(j *job) {
		j.flow(1, some)
		j.must(j.lab.Part(1, 2))
		<-time.After(time.Second)
		j.must(j.lab.Join(1, 2))
	}},
	{name: "loss", args: patient, long: true, limit: 40 * time.Second, strike: func(j *job) {
		for leaf := range ranks {
			j.lab.Lose(leaf, 10_000) // a packet between two ranks crosses two links
		}
		for _, p := range j.ranks {
			_ = p.wait(j, busy*j.c.limit)
		}
		if n := j.lab.Lost(0) + j.lab.Lost(1); n < 10 {
			j.Errorf("%d packets were lost", n)
		}
	}},
	{name: "far apart", long: true, limit: 40 * time.Second, strike: func(j *job) {
		for leaf := range ranks {
			j.lab.Delay(leaf, 10*time.Millisecond) // 40 ms there and back
		}
	}},
	{name: "far and lossy", args: patient, long: true, limit: 60 * time.Second, strike: func(j *job) {
		j.lab.Delay(3, 25*time.Millisecond)
		j.lab.Lose(3, 30_000)
	}},
	{name: "slow link", limit: 60 * time.Second, strike: func(j *job) { j.must(j.lab.Rate(1, 4e6)) }},
	{name: "disk of the output full", only: "tcp", stops: true, limit: 20 * time.Second, says: `no space left on device; make room`,
		prepare: func(j *job) {
			j.out, j.temp = filepath.Join(j.disk("1m"), "out"), filepath.Join(j.dir, "work")
		}, heal: func(j *job) { j.resize("200m") }},
	{name: "disk of one rank full", args: []string{"--memory-limit", "128MiB", "--bands-per-iteration", "20"}, stops: true, limit: 30 * time.Second,
		says: `rank 2.*/spill/rank-2/.*no space left on device`, prepare: func(j *job) {
			n := 0
			w, err := newWork(j.TempDir(), 50_000, func() string { n++; return fmt.Sprintf("the %024x", uint64(n)*0x9e3779b97f4a7c15) })
			j.must(err)
			j.work = w
		}, strike: fillSpill},
	{name: "strangers", long: true, limit: 40 * time.Second, says: `turned away a caller from 10\.77\.0\.5`, prepare: far, before: startStrangers},
	{name: "strangers who wait", long: true, limit: 40 * time.Second, says: `turned away a caller from 10\.77\.0\.5`, prepare: far, before: startWaiting},
	{name: "wrong secret", only: "tcp", limit: 30 * time.Second, says: `turned away a caller from 10\.77\.0\.4:\d+: .*it has another secret, or none`, before: func(j *job) {
		other := filepath.Join(j.dir, "secret")
		j.secret = filepath.Join(j.TempDir(), "other")
		j.must(os.WriteFile(j.secret, []byte("03d16fb27c94e85a0f1db3c84a27e596"), 0o600))
		j.refused(j.start(3, "rank 3 with another secret", program, j.args(3)...), `refused by rank 0 at .*: it has another secret`)
		j.secret = other
	}},
	{name: "another version", only: "tcp", limit: 30 * time.Second, says: `rank 3 is version "another", rank 0 version`, prepare: anotherVersion, before: func(j *job) {
		j.refused(j.start(3, "rank 3 of another version", j.other, j.args(3)...), `refused by rank 0 at .*rank 3 is version "another"`)
	}},
	{name: "another spec", only: "tcp", limit: 30 * time.Second, says: `rank 3 was started with other options`, before: func(j *job) {
		j.refused(j.start(3, "rank 3 with another spec", program, append(j.args(3), "--num-bands", "10")...), `refused by rank 0 at .*other options`)
	}},
	{name: "killed and started again", rate: 20e6, dead: []int{2}, limit: 30 * time.Second, says: `rank 2 on \S+ is lost: its connection`, strike: func(j *job) {
		j.flow(2, some)
		j.kill(2, syscall.SIGKILL)
		p := j.start(2, "the second rank 2", program, j.args(2)...)
		j.others = append(j.others, p)
		if err := p.wait(j, busy*30*time.Second); err != nil {
			j.Errorf("%s: %v: %s", p.name, err, j.words())
		}
	}},
	{name: "a rank twice", limit: 40 * time.Second, says: `it is there already: rank 2`, strike: func(j *job) {
		j.flow(2, some)
		j.others = append(j.others, j.start(stranger, "a second rank 2", program, append(j.args(2), "--join-timeout", "1s")...))
		if err := j.others[0].wait(j, busy*10*time.Second); err == nil {
			j.Error("the second rank 2 ends well")
		}
	}},
}

// refused waits until a process has ended that rank 0 has to refuse. Rank 0 may not be listening yet.
func (j *job) refused(p *process, says string) {
	j.Helper()
	j.others = append(j.others, p)
	err := p.wait(j, busy*10*time.Second)
	if line := p.lastLine(); err == nil || !regexp.MustCompile(says).MatchString(line) {
		j.Errorf("%s: %v: %q, want %q", p.name, err, line, says)
	}
}

// TestFaults plays the table.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, transport := range transports {
		for _, c := range table {
			if c.only != "" && transport != "" && c.only != transport {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", transport, c.name), func(t *testing.T) {
				t.Parallel()
				play(t, &c, transport)
			})
		}
	}
}

// play plays one.
func play(t *testing.T, c *fault, transport string) {
	j := newJob(t, c, transport)
	if c.prepare != nil {
		c.prepare(j)
	}
	j.startRanks()
	if c.strike != nil {
		c.strike(j)
	}
	end := time.Now().Add(busy * c.limit)
	for r, p := range j.ranks {
		if !slices.Contains(c.dead, r) {
			_ = p.wait(j, time.Until(end))
		}
	}
	if c.heal != nil {
		c.heal(j)
	}
	for _, r := range c.dead {
		_ = j.ranks[r].Process.Signal(syscall.SIGCONT) // it may be stopped, and finds that it was lost
		_ = j.ranks[r].wait(j, busy*20*time.Second)
	}
	if c.stops {
		for r, p := range j.ranks {
			if !slices.Contains(c.dead, r) {
				j.stopped(p, c.says)
			}
		}
		j.again()
		return
	}
	for r, p := range j.ranks {
		switch {
		case slices.Contains(c.dead, r):
		case slices.Contains(c.lost, r):
			j.stopped(p, "")
		case p.failed != nil:
			j.Errorf("%s: %v: %s", p.name, p.failed, j.words())
		case j.crossed(r) < some:
			j.Errorf("only %d bytes have crossed the link of rank %d", j.crossed(r), r)
		}
	}
	notes := j.ranks[0].err.String()
	if c.says != "" && !regexp.MustCompile(c.says).MatchString(notes) {
		j.Errorf("rank 0 says %q, want %q", notes, c.says)
	}
	if lost := len(c.dead) + len(c.lost); lost == 0 && regexp.MustCompile(`is lost|begins again`).MatchString(notes) {
		j.Errorf("nobody should be lost, and nothing done again: %s", notes)
	}
	j.finished()
}

// disk mounts a small disk.
func (j *job) disk(size string) string {
	j.Helper()
	dir := filepath.Join(j.dir, "disk")
	j.must(os.Mkdir(dir, 0o777))
	j.must(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	j.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func (j *job) resize(size string) {
	j.Helper()
	j.must(syscall.Mount("tmpfs", filepath.Join(j.dir, "disk"), "tmpfs", syscall.MS_REMOUNT, "size="+size))
}

// fillSpill gives one rank, which sees mounts of its own, a tiny disk for what it spills.
func fillSpill(j *job) {
	const rank = 2
	dir := filepath.Join(j.temp, "*", "spill", fmt.Sprint("rank-", rank))
	for {
		if found, err := filepath.Glob(dir); err == nil && len(found) == 1 {
			dir = found[0]
			break
		}
		select {
		case <-j.ranks[0].over:
			j.Fatalf("the job has ended before %s was there: %s", dir, j.words())
		case <-time.After(time.Millisecond):
		}
	}
	out, err := exec.Command("nsenter", "--mount", "--target", fmt.Sprint(j.ranks[rank].Process.Pid),
		"mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", dir).CombinedOutput()
	if err != nil {
		j.Fatalf("%v: %s", err, out)
	}
}

// far has ranks greet each other for so long that strangers find the ports at which they do.
func far(j *job) {
	for leaf := range ranks {
		j.lab.Delay(leaf, 2*time.Millisecond)
	}
}

// anotherVersion makes the program, but for what it says its version is.
func anotherVersion(j *job) {
	j.other = filepath.Join(j.TempDir(), "dovetail")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.buildVersion=another", "-o", j.other, "./cmd/dovetail")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		j.Fatalf("%v: %s", err, out)
	}
}

package faults

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/netlab"
)

// ranks is how many a job has; stranger is the leaf of one that is not of it.
const (
	ranks    = 4
	stranger = ranks
	rootPort = "7700"
)

// job is a run of the program as several ranks.
type job struct {
	*testing.T
	c         *fault
	transport string
	lab       *netlab.Lab
	work      work
	dir       string // of all that it writes
	out, temp string
	secret    string
	other     string // a program that is not quite this
	ranks     []*process
	others    []*process // that are not of the job
	base      []int64    // bytes that had crossed each link when the ranks were started
}

// process is one of the program.
type process struct {
	*exec.Cmd
	name     string
	out, err said
	over     chan struct{}
	failed   error // once it is over
}

// said is what a process has said so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newJob makes the network.
func newJob(t *testing.T, c *fault, transport string) *job {
	t.Helper()
	lab, err := netlab.New(netlab.Options{Leaves: ranks + 1, Long: c.long})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	j := &job{T: t, c: c, transport: transport, lab: lab, work: usual, dir: dir, out: filepath.Join(dir, "out"), temp: filepath.Join(dir, "out.work"),
		secret: filepath.Join(dir, "secret")}
	t.Cleanup(func() {
		for _, p := range append(slices.Clone(j.ranks), j.others...) {
			_ = p.Process.Signal(syscall.SIGCONT)
			_ = p.Process.Kill()
			<-p.over
		}
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	j.must(os.WriteFile(j.secret, []byte("8a5c0f6e1d7b42939e4f10c2ab37d865\n"), 0o600))
	if c.rate > 0 {
		for leaf := range lab.Size() {
			j.must(lab.Rate(leaf, c.rate))
		}
	}
	return j
}

func (j *job) must(err error) {
	j.Helper()
	if err != nil {
		j.Fatal(err)
	}
}

// args are those of a rank.
func (j *job) args(rank int) []string {
	a := []string{
		"dedup", "--input", j.work.input, "--output", j.out, "--work", j.temp, "--workers", "1", "--size", fmt.Sprint(ranks), "--rank", fmt.Sprint(rank),
		"--root", j.lab.Addr(0) + ":" + rootPort, "--secret-file", j.secret, "--rank-timeout", "2s", "--join-timeout", "15s", "--progress", "plain",
	}
	if j.transport != "" {
		a = append(a, "--transport", j.transport)
	}
	return append(a, j.c.args...)
}

// start starts a program on a leaf.
func (j *job) start(leaf int, name, program string, args ...string) *process {
	j.Helper()
	p := &process{Cmd: exec.Command(program, args...), name: name, over: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, &p.err
	p.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // it can have disks that the others have not
	// Ranks on one machine would find shared memory, and nothing would cross a link.
	p.Env = append(os.Environ(), "UCX_TLS=tcp", "UCX_NET_DEVICES=eth0")
	j.must(j.lab.Start(leaf, p.Cmd))
	go func() {
		p.failed = p.Wait()
		close(p.over)
	}()
	return p
}

// startRanks starts the ranks of the job.
func (j *job) startRanks() {
	j.Helper()
	j.ranks = nil
	j.mark()
	for r := range ranks {
		if j.c.before != nil && r == 1 {
			j.c.before(j)
		}
		j.ranks = append(j.ranks, j.start(r, fmt.Sprint("rank ", r), program, j.args(r)...))
	}
}

// mark notes how many bytes have crossed the links.
func (j *job) mark() {
	j.base = make([]int64, ranks)
	for r := range j.base {
		j.base[r] = j.crossed(r)
	}
}

// crossed is how many bytes have crossed the link of a leaf since mark.
func (j *job) crossed(leaf int) int64 {
	j.Helper()
	sent, err := j.lab.Sent(leaf)
	j.must(err)
	received, err := j.lab.Received(leaf)
	j.must(err)
	return sent + received - j.base[leaf]
}

// flow waits until so many bytes have crossed the link of a leaf, and fails the test if the job ends before.
func (j *job) flow(leaf int, bytes int64) {
	j.Helper()
	if !j.flows(leaf, bytes) {
		j.Fatalf("the job has ended when %d bytes had crossed the link of rank %d, before anything was to happen: %s", j.crossed(leaf), leaf, j.words())
	}
}

// flows waits until so many bytes have crossed the link of a leaf, and reports false if the job ends before.
func (j *job) flows(leaf int, bytes int64) bool {
	j.Helper()
	for j.crossed(leaf) < bytes {
		select {
		case <-j.ranks[0].over:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// hears waits until a process has said something.
func (p *process) hears(j *job, what string) {
	j.Helper()
	re := regexp.MustCompile(what)
	for end := time.Now().Add(busy * j.c.limit); !re.MatchString(p.err.String()); {
		select {
		case <-p.over:
			if !re.MatchString(p.err.String()) {
				j.Fatalf("%s has ended and did not say %q: %s", p.name, what, j.words())
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			j.Fatalf("%s does not say %q: %s", p.name, what, j.words())
		}
	}
}

// words is all that was said.
func (j *job) words() string {
	var b strings.Builder
	for _, p := range append(slices.Clone(j.ranks), j.others...) {
		state := "runs"
		select {
		case <-p.over:
			state = "has ended"
			if p.failed != nil {
				state = p.failed.Error()
			}
		default:
		}
		fmt.Fprintf(&b, "\n  %s (%s): %s%s", p.name, state, p.err.String(), p.out.String())
	}
	return b.String()
}

// wait waits until a process has ended, and fails the test if it does not.
func (p *process) wait(j *job, limit time.Duration) error {
	j.Helper()
	select {
	case <-p.over:
		return p.failed
	case <-time.After(limit):
		_ = p.Process.Signal(syscall.SIGQUIT) // Go's runtime says what its goroutines do
		select {
		case <-p.over:
		case <-time.After(2 * time.Second):
		}
		j.Fatalf("%s has not ended after %v: %s", p.name, limit, j.words())
		return nil
	}
}

// lastLine is the line with which a process ends: those before it are notes.
func (p *process) lastLine() string {
	lines := strings.Split(strings.TrimSuffix(p.err.String(), "\n"), "\n")
	return lines[len(lines)-1]
}

// stopped checks how a rank ended that could not go on: with one line, which names a rank if nothing else is wanted of it.
func (j *job) stopped(p *process, says string) {
	j.Helper()
	if says == "" {
		says = `\branks? \d`
	}
	line := p.lastLine()
	if p.failed == nil || !strings.HasPrefix(line, "dovetail: ") || strings.Contains(p.err.String(), "goroutine ") || !regexp.MustCompile(says).MatchString(line) {
		j.Errorf("%s ends with %v and says %q, want one line with %q", p.name, p.failed, p.err.String(), says)
	}
}

// finished checks the result.
func (j *job) finished() {
	j.Helper()
	got, err := readDigest(j.out)
	if err != nil || got != j.work.digest {
		j.Fatalf("digest %s, want %s (%v): %s", got, j.work.digest, err, j.words())
	}
	left, err := os.ReadDir(filepath.Dir(j.out))
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return !slices.Contains([]string{"out", "secret", "disk"}, e.Name()) }) {
		j.Errorf("left %v (%v)", left, err)
	}
}

// again runs the job once more, with nothing in its way.
func (j *job) again() {
	j.Helper()
	quiet := *j.c
	quiet.before = nil
	j.c = &quiet
	j.startRanks()
	for _, p := range j.ranks {
		if err := p.wait(j, busy*time.Minute); err != nil {
			j.Fatalf("going on: %s: %v: %s", p.name, err, j.words())
		}
	}
	j.finished()
}

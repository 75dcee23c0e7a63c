package launchers

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slurm is a controller and two nodes, n1 and n2, of two GPUs each that are none.
type slurm struct {
	dir  string
	conf string
	// inside is what begins a command, so that it runs where the controller is.
	inside []string
}

// where says in which network namespaces, and at which addresses, the parts of a Slurm are.
type where struct {
	inside     [3][]string // the controller, n1, n2: what their commands begin with
	controller string
	addr       [2]string
}

const slurmConf = `ClusterName=dovetail
SlurmctldHost=@HOST(@CONTROLLER)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
SlurmctldPort=@PORT
SlurmctldPidFile=@DIR/slurmctld.pid
SlurmdPidFile=@DIR/slurmd.%n.pid
SlurmdSpoolDir=@DIR/spool.%n
StateSaveLocation=@DIR/state
SlurmctldLogFile=@DIR/slurmctld.log
SlurmdLogFile=@DIR/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
KillWait=5
GresTypes=gpu
@NODES
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
TmpFS=@DIR/tmp.%n
`

// newSlurm starts a Slurm, which ends with the test.
func newSlurm(t *testing.T, at where) *slurm {
	t.Helper()
	need(t, "slurmctld", "slurmd", "srun", "munged")
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: a Slurm on this machine needs root")
	}
	munge(t)
	dir, err := os.MkdirTemp(scratch, "slurm")
	if err != nil {
		t.Fatal(err)
	}
	s := &slurm{dir: dir, conf: filepath.Join(dir, "slurm.conf"), inside: at.inside[0]}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	// Devices in name only: Slurm wants character devices.
	var gres strings.Builder
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprintf("gpu%d", i))
		if err := syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3); err != nil {
			t.Skipf("NOT TESTED: no device can be made: %v", err)
		}
		if i%2 == 0 {
			fmt.Fprintf(&gres, "NodeName=n%d Name=gpu Type=fake File=%s/gpu[%d-%d]\n", 1+i/2, dir, i, i+1)
		}
	}
	port := freePorts(t, 3)
	nodes := ""
	for i := range 2 {
		nodes += fmt.Sprintf("NodeName=n%d NodeHostname=%s NodeAddr=%s Port=%d CPUs=8 RealMemory=2000 Gres=gpu:fake:2 State=UNKNOWN\n", 1+i, host, at.addr[i], port+1+i)
	}
	text := strings.NewReplacer("@HOST", host, "@CONTROLLER", at.controller, "@PORT", strconv.Itoa(port), "@DIR", dir, "@NODES", nodes).Replace(slurmConf)
	err = errors.Join(os.WriteFile(s.conf, []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "gres.conf"), []byte(gres.String()), 0o644))
	for _, name := range []string{"state", "spool.n1", "spool.n2", "tmp.n1", "tmp.n2"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t) })
	for i, daemon := range [][]string{{"slurmctld", "-f", s.conf}, {"slurmd", "-f", s.conf, "-N", "n1"}, {"slurmd", "-f", s.conf, "-N", "n2"}} {
		args := append(append([]string(nil), at.inside[i]...), daemon...)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s\n%s", args, err, out, s.logs())
		}
	}
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		args := s.command("sinfo", "-h", "-N", "-o", "%T")
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = s.env()
		out, err := cmd.CombinedOutput()
		if string(out) == "idle\nidle\n" {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("Slurm does not get ready: %v %s\n%s", err, out, s.logs())
		}
	}
}

// munge starts the service by which Slurm's parts recognize each other, if it does not run.
func munge(t *testing.T) {
	t.Helper()
	if exec.Command("munge", "-n").Run() == nil {
		return
	}
	_ = os.MkdirAll("/run/munge", 0o755)
	if out, err := exec.Command("chown", "munge:", "/run/munge").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("runuser", "-u", "munge", "--", "munged").CombinedOutput(); err != nil {
		t.Fatalf("munged: %v: %s", err, out)
	}
	t.Cleanup(func() { end("/run/munge/munged.pid") })
}

// end ends a daemon, and returns when it is gone.
func end(pidFile string) {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 2 {
		return
	}
	for i := 0; syscall.Kill(pid, syscall.SIGTERM) == nil && i < 100; i++ {
		time.Sleep(50 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func (s *slurm) stop(t *testing.T) {
	if t.Failed() {
		t.Log(s.logs())
	}
	for _, name := range []string{"slurmd.n1.pid", "slurmd.n2.pid", "slurmctld.pid"} {
		end(filepath.Join(s.dir, name))
	}
}

// logs are the last lines that Slurm has written.
func (s *slurm) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.log"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(f), data[max(0, len(data)-1500):])
	}
	return b.String()
}

// freePorts returns the first of n ports in a row that are free.
func freePorts(t *testing.T, n int) int {
	t.Helper()
next:
	for port := 15000 + os.Getpid()%4000; port < 32000; port += n {
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+i))
			if err != nil {
				continue next
			}
			_ = l.Close()
		}
		return port
	}
	t.Fatal("no ports are free")
	return 0
}

// command is a command of Slurm's.
func (s *slurm) command(args ...string) []string {
	return append(append([]string(nil), s.inside...), args...)
}

// env is the environment of its commands.
func (s *slurm) env(more ...string) []string { return environ(append(more, "SLURM_CONF="+s.conf)...) }

// srun starts n ranks on nodes.
func (s *slurm) srun(mpi string, nodes, n int, more ...string) []string {
	return s.command(append([]string{"srun", "--quiet", "--mpi=" + mpi, fmt.Sprintf("--nodes=%d", nodes), fmt.Sprintf("--ntasks=%d", n), "--overcommit"}, more...)...)
}

var oneMachine = where{controller: "127.0.0.1", addr: [2]string{"127.0.0.1", "127.0.0.1"}}

// TestSlurm is all that needs a Slurm on this machine.
func TestSlurm(t *testing.T) {
	s := newSlurm(t, oneMachine)
	t.Run("Ranks", s.ranks)
	t.Run("ByHand", s.byHand)
	t.Run("WithoutService", s.withoutService)
	t.Run("GPUs", s.gpus)
	t.Run("Killed", s.killed)
	t.Run("Suspended", s.suspended)
	t.Run("Script", s.script)
}

// ranks: 1, 2, 4 and 8 ranks give the result of one process, and run.json says who did the work.
func (s *slurm) ranks(t *testing.T) {
	for _, c := range []struct {
		mpi, bin, through string
		n                 int
		transport         string
	}{
		{"pmix", program, "PMIx", 1, ""}, {"pmix", program, "PMIx", 2, "tcp"}, {"pmix", program, "PMIx", 4, "tcp"}, {"pmix", program, "PMIx", 8, "tcp"},
		{"pmix", program, "PMIx", 2, "ucx"}, {"pmix", program, "PMIx", 4, "ucx"}, {"pmix", program, "PMIx", 8, "ucx"},
		{"pmi2", plain, "PMI", 4, "tcp"}, {"pmi2", program, "PMI", 2, "ucx"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		runs(t, s.env(withUCX), append(s.srun(c.mpi, min(c.n, 2), c.n), dedup(t, c.bin, out, "--transport", cmp.Or(c.transport, "auto"))...)...)
		what := fmt.Sprintf("srun --mpi=%s -n %d over %s", c.mpi, c.n, c.transport)
		r := check(t, what, out)
		hosts := strings.Join(r.Stages.Hosts, " ")
		want := strings.TrimSpace(strings.Repeat("n1 ", (c.n+1)/2) + strings.Repeat("n2 ", c.n/2))
		if r.Ranks != c.n || hosts != want || r.Stages.Transport != c.transport || !strings.HasPrefix(r.Stages.Launcher, "slurm, job ") || !strings.HasSuffix(r.Stages.Launcher, ", through "+c.through) {
			t.Errorf("%s: %+v", what, r)
		}
	}
}

// byHand: a batch script and a shell in an allocation of four tasks are no ranks, nor is what a task starts with --launcher none.
func (s *slurm) byHand(t *testing.T) {
	const placed = "this process: rank"
	script, log := filepath.Join(s.dir, "batch.sh"), filepath.Join(s.dir, "batch.out")
	text := fmt.Sprintf("#!/bin/sh\n%s info\n%s dedup --progress none --input %s --output %s\n", program, program, input().dir, filepath.Join(s.dir, "batch"))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	runs(t, s.env(), s.command("sbatch", "--wait", "--nodes=2", "--ntasks=4", "--output="+log, script)...)
	said, err := os.ReadFile(log)
	if err != nil || strings.Contains(string(said), placed) || !strings.Contains(string(said), input().digest) {
		t.Errorf("sbatch: %s, %v", said, err)
	}
	if said := runs(t, s.env(), s.command("salloc", "--nodes=2", "--ntasks=4", program, "info")...); strings.Contains(said, placed) {
		t.Errorf("salloc: %s", said)
	}
	if said := runs(t, s.env(), s.srun("pmix", 2, 4, program, "info")...); strings.Count(said, "of 2 on this node: slurm, job ") != 4 {
		t.Errorf("srun: %s", said)
	}
	out := filepath.Join(t.TempDir(), "out")
	runs(t, s.env(), append(s.srun("pmix", 1, 1), dedup(t, program, out, "--launcher", "none")...)...)
	if r := check(t, "--launcher none", out); r.Stages.Launcher != "" {
		t.Errorf("--launcher none: %+v", r)
	}
}

// withoutService: what Slurm's environment says is enough on one node, and with a secret on several.
func (s *slurm) withoutService(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	runs(t, s.env(), append(s.srun("none", 1, 3), dedup(t, plain, out)...)...)
	if r := check(t, "one node", out); r.Ranks != 3 || strings.Contains(r.Stages.Launcher, "through") {
		t.Errorf("%+v", r)
	}
	fails(t, s.env(), "export DOVETAIL_SECRET=$(openssl rand -hex 32)", append(s.srun("none", 2, 2), dedup(t, plain, out+"2")...)...)
	fails(t, s.env(), "--mpi=pmi2", append(s.srun("none", 2, 2), dedup(t, plain, out+"2")...)...)
	// n1 and n2 are no names of machines here.
	out = filepath.Join(t.TempDir(), "out")
	root := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1))
	runs(t, s.env("DOVETAIL_SECRET=0123456789abcdef0123456789abcdef"), append(s.srun("none", 2, 4), dedup(t, plain, out, "--root", root)...)...)
	check(t, "two nodes", out)
	// With PMIx but a build or a node without it.
	out = filepath.Join(t.TempDir(), "out")
	runs(t, s.env("DOVETAIL_SECRET=0123456789abcdef0123456789abcdef"), append(s.srun("pmix", 2, 4), dedup(t, plain, out, "--root", root)...)...)
	check(t, "PMIx that is not used", out)
}

// gpus: what Slurm says about GPUs is what the detection expects: with --gpus-per-task each task sees its own, of two on the node; with
// --gres all see both.
func (s *slurm) gpus(t *testing.T) {
	show := []string{"sh", "-c", "echo $SLURM_LOCALID:$CUDA_VISIBLE_DEVICES:$SLURM_GPUS_ON_NODE"}
	for _, c := range []struct{ flag, want string }{
		{"--gpus-per-task=1", "0:0:2 0:0:2 1:1:2 1:1:2"},
		{"--gres=gpu:2", "0:0,1:2 0:0,1:2 1:0,1:2 1:0,1:2"},
	} {
		lines := strings.Fields(runs(t, s.env(), append(s.srun("none", 2, 4, c.flag), show...)...))
		slices.Sort(lines)
		if got := strings.Join(lines, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.flag, got, c.want)
		}
	}
}

// killed kills ranks of srun.
func (s *slurm) killed(t *testing.T) {
	for _, c := range []struct {
		mpi, bin  string
		victim    int
		transport string
	}{{"pmix", program, 2, "tcp"}, {"pmi2", plain, 1, "tcp"}, {"pmix", program, 0, "tcp"}, {"pmix", program, 2, "ucx"}} {
		killOne(t, "SLURM_PROCID", c.victim, func(out string) (env, args []string) {
			return s.env(withUCX), append(s.srun(c.mpi, 2, 4), dedup(t, c.bin, out, "--transport", c.transport)...)
		})
	}
}

// suspended: a job that Slurm suspends, for longer than a rank may be silent, goes on when it is resumed, and has lost nobody.
func (s *slurm) suspended(t *testing.T) {
	for _, transport := range []string{"tcp", "ucx"} {
		tries := 1
		for !s.suspend(t, transport) {
			if tries++; tries > 5 {
				t.Fatalf("%s: the job is always done before it is suspended", transport)
			}
		}
	}
}

// suspend reports whether the job was not done yet when it was suspended.
func (s *slurm) suspend(t *testing.T, transport string) bool {
	out := filepath.Join(t.TempDir(), "out")
	r := start(t, s.env(withUCX), append(s.srun("pmix", 2, 4), dedup(t, program, out, "--transport", transport, "--rank-timeout", "2s")...)...)
	process(t, "SLURM_PROCID", 3, out)
	begun(t, r, out)
	job := strings.TrimSpace(runs(t, s.env(), s.command("squeue", "--noheader", "--format=%A")...))
	stopped := start(t, s.env(), s.command("scontrol", "suspend", job)...).wait(t, testLimit) == nil // it fails if the job has ended
	_, unfinished := os.Stat(out)
	if stopped {
		time.Sleep(5 * time.Second)
		if _, err := os.Stat(out); unfinished != nil && err == nil {
			t.Errorf("%s: it went on while it was suspended", transport)
		}
		runs(t, s.env(), s.command("scontrol", "resume", job)...)
	}
	if ended := r.wait(t, testLimit); ended != nil {
		t.Errorf("%s: %v: %s", transport, ended, r.said.String())
	}
	if lost := check(t, transport, out).Stages.Lost; len(lost) > 0 {
		t.Errorf("%s: lost %v", transport, lost)
	}
	return stopped && unfinished != nil
}

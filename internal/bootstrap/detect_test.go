package bootstrap

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// vars makes an environment of NAME=VALUE words.
func vars(text string) Environ {
	m := make(map[string]string)
	for word := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(word, "=")
		m[name] = value
	}
	return func(name string) string { return m[name] }
}

// What launchers set, as they were seen to.
const (
	// srun -N2 -n4 -c2, on the second node.
	step = `SLURM_JOB_ID=12 SLURM_STEP_ID=3 SLURM_STEPID=3 SLURM_PROCID=2 SLURM_LOCALID=0 SLURM_NODEID=1 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4
		SLURM_STEP_NUM_NODES=2 SLURM_STEP_TASKS_PER_NODE=2(x2) SLURM_STEP_NODELIST=n[1-2] SLURMD_NODENAME=n2 SLURM_CPUS_PER_TASK=2 SLURM_CPUS_ON_NODE=4 `
	// A batch script of 4 tasks: what srun would set, but for the step.
	batch = `SLURM_JOB_ID=12 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=4 SLURM_NPROCS=4 SLURM_NNODES=2 SLURM_JOB_NODELIST=n[1-2]
		SLURM_TASKS_PER_NODE=2(x2) SLURMD_NODENAME=n1 SLURM_CPUS_ON_NODE=4 `
	pmixOfStep = `PMIX_NAMESPACE=slurm.pmix.12.3 PMIX_RANK=2 `
	mpirun     = `OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=4 PMIX_NAMESPACE=2764570625 PMIX_RANK=1 `
	torchrun   = `RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=node1 MASTER_PORT=29500 TORCHELASTIC_RUN_ID=none TORCHELASTIC_USE_AGENT_STORE=True `
	hydra      = `PMI_FD=9 PMI_RANK=1 PMI_SIZE=4 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=4 `
	pmi2OfStep = `PMI_FD=9 PMI_RANK=2 PMI_SIZE=4 PMI_JOBID=12.3 `
)

func TestDetect(t *testing.T) {
	none := errors.New("no libpmix")
	for _, c := range []struct {
		what, launcher, env string
		size                int
		noPMIx              bool
		want                string // launcher through rank/size local/localsize nodes; "" for none
		fails               string
	}{
		{what: "a shell", env: "HOME=/root"},
		{what: "a batch script", env: batch},
		{what: "salloc without a step", env: "SLURM_JOB_ID=12 SLURM_NTASKS=4 SLURM_NNODES=2 SLURM_JOB_NODELIST=n[1-2]"},
		{what: "a batch script with the number of its step", env: batch + "SLURM_STEP_ID=4294967291"},
		{what: "an interactive step", env: batch + "SLURM_STEP_ID=4294967290 SLURM_STEP_NUM_TASKS=1"},
		{what: "srun", env: step, want: "slurm  2/4 0/2 2"},
		{what: "srun --mpi=pmix", env: step + pmixOfStep, want: "slurm pmix 2/4 0/2 2"},
		{what: "srun --mpi=pmix without libpmix", env: step + pmixOfStep, noPMIx: true, want: "slurm  2/4 0/2 2"},
		{what: "srun --mpi=pmi2", env: step + pmi2OfStep, want: "slurm pmi 2/4 0/2 2"},
		{what: "srun --pty", env: strings.ReplaceAll(step, "=4", "=1") + "SLURM_PROCID=0", want: "slurm  0/1 0/1 2"},
		{what: "mpirun", env: mpirun, want: "openmpi pmix 1/4 1/4 1"},
		{what: "mpirun without libpmix", env: mpirun, noPMIx: true, want: "openmpi  1/4 1/4 1"},
		{what: "mpirun, whose daemon srun started", env: step + mpirun, want: "openmpi pmix 1/4 1/4 1"},
		{what: "the same without libpmix", env: step + mpirun, noPMIx: true, want: "openmpi  1/4 1/4 1"},
		{what: "srun inside of mpirun", env: strings.ReplaceAll(mpirun, "PMIX_", "OLD_") + step + pmixOfStep, want: "slurm pmix 2/4 0/2 2"},
		{what: "prterun", env: "PMIX_NAMESPACE=prterun-vm-7@1 PMIX_RANK=5", want: "pmix pmix 5/0 0/0 0"},
		{what: "mpiexec of MPICH", env: hydra, want: "pmi pmi 1/4 1/4 0"},
		{what: "mpiexec of MPICH in a step of srun", env: step + hydra, want: "pmi pmi 1/4 1/4 0"},
		{what: "torchrun", env: torchrun, want: "env  3/4 1/2 0"},
		{what: "torchrun in a step of srun", env: step + pmixOfStep + torchrun, want: "env  3/4 1/2 0"},
		{what: "variables like torchrun's in a step of srun", env: step + strings.ReplaceAll(torchrun, "TORCHELASTIC_", "OTHER_"), want: "slurm  2/4 0/2 2"},
		{what: "rank and size without an address", env: "RANK=0 WORLD_SIZE=2"},
		{what: "a pod", env: "JOB_COMPLETION_INDEX=2", size: 3, want: "kubernetes  2/3 0/0 0"},
		{what: "a pod that has nothing to do with others", env: "JOB_COMPLETION_INDEX=2"},

		{what: "none", launcher: None, env: step + mpirun},
		{what: "slurm although there is PMIx", launcher: Slurm, env: step + pmixOfStep, want: "slurm  2/4 0/2 2"},
		{what: "slurm in a batch script", launcher: Slurm, env: batch, fails: "did not start this process"},
		{what: "openmpi by name", launcher: OpenMPI, env: mpirun, want: "openmpi  1/4 1/4 1"},
		{what: "pmix without libpmix", launcher: PMIx, env: mpirun, noPMIx: true, fails: "no libpmix"},
		{what: "pmix that is not there", launcher: PMIx, env: step, fails: "PMIX_RANK are not set"},
		{what: "pmi that is not there", launcher: PMI, env: step, fails: "PMI_SIZE are not set"},
		{what: "kubernetes without a size", launcher: Kubernetes, env: "JOB_COMPLETION_INDEX=2", fails: "DOVETAIL_SIZE"},
		{what: "env that is not there", launcher: Env, env: step, fails: "MASTER_PORT are not all set"},
		{what: "no such launcher", launcher: "lsf", fails: "must be one of auto, none, pmix"},

		{what: "no number", env: torchrun + "RANK=x", fails: `$RANK is "x"`},
		{what: "no such rank", env: torchrun + "RANK=4", fails: "rank 4 of 4, which cannot be"},
		{what: "a pod too many", env: "JOB_COMPLETION_INDEX=3", size: 3, fails: "rank 3 of 3"},
		{what: "a list of nodes that is none", env: step + "SLURM_STEP_NODELIST=n[1-", fails: "a bracket is open"},
	} {
		h := Hints{Size: c.size, PMIx: func() error { return nil }}
		if c.noPMIx {
			h.PMIx = func() error { return none }
		}
		if c.launcher == "" {
			c.launcher = Auto
		}
		p, err := Detect(c.launcher, vars(c.env), h)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, %v, want %q", c.what, p, err, c.fails)
			}
			continue
		}
		got := ""
		if p != nil {
			got = fmt.Sprintf("%s %s %d/%d %d/%d %d", p.Launcher, p.Through, p.Rank, p.Size, p.LocalRank, p.LocalSize, p.Nodes)
			if (p.Through != "") != (p.ask != nil) {
				t.Errorf("%s: through %q, and a service: %v", c.what, p.Through, p.ask != nil)
			}
			if c.noPMIx != (len(p.Notes) > 0) {
				t.Errorf("%s: notes %q", c.what, p.Notes)
			}
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q %v, want %q", c.what, got, err, c.want)
		}
	}
}

// TestDetectDetails: what else is known, and where rank 0 is said to be.
func TestDetectDetails(t *testing.T) {
	pmix := Hints{Size: 3, PMIx: func() error { return nil }}
	for _, c := range []struct {
		env, text, root, fails string
		port                   int
	}{
		{env: step, text: "slurm, job 12.3", root: "n1:20315"},
		{env: step, text: "slurm, job 12.3", root: "n1:7000", port: 7000},
		{env: step + "SLURM_STEP_NUM_NODES=1", text: "slurm, job 12.3", root: "127.0.0.1:20315"},
		{env: step + "SLURM_PROCID=0", text: "slurm, job 12.3", fails: "rank 0 is on n2 and not on the first node"},
		{env: mpirun, text: "openmpi, job 2764570625, through PMIx", root: "127.0.0.1:24611"},
		{env: mpirun + "OMPI_COMM_WORLD_LOCAL_SIZE=2", text: "openmpi, job 2764570625, through PMIx", fails: "mpirun does not say where rank 0 is"},
		{env: torchrun, text: "env", root: "node1:29501"},
		{env: torchrun + "TORCHELASTIC_USE_AGENT_STORE=False TORCHELASTIC_RUN_ID=7", text: "env, job 7", root: "node1:29500"},
		{env: torchrun, text: "env", root: "node1:7000", port: 7000},
		{env: "JOB_COMPLETION_INDEX=1", text: "kubernetes", fails: "DOVETAIL_ROOT"},
	} {
		p, err := Detect(Auto, vars(c.env), pmix)
		if err != nil {
			t.Errorf("%q: %v", c.env, err)
			continue
		}
		if p.String() != c.text {
			t.Errorf("%q: %q, want %q", c.env, p, c.text)
		}
		root, err := p.root(c.port)
		if root != c.root || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%q: root %q, %v, want %q, %q", c.env, root, err, c.root, c.fails)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		list string
		most int
		want []string
	}{
		{"n1", 2, []string{"n1"}},
		{"n[1-2]", 2, []string{"n1", "n2"}},
		{"n[08-11,20],login1", 9, []string{"n08", "n09", "n10", "n11", "n20", "login1"}},
		{"a,b[1,3],c", 9, []string{"a", "b1", "b3", "c"}},
		{"r[1-2]n[01-02]x", 9, []string{"r1n01x", "r1n02x", "r2n01x", "r2n02x"}},
		{"n[1-1000000000]", 2, []string{"n1", "n2"}},
		{"", 2, nil},
	} {
		got, err := hosts(c.list, c.most)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, %v", c.list, got, err)
		}
	}
	for _, list := range []string{"n[1-2", "n[2-1]", "n[]", "n[x]", ",", "a,,b", "n[1-99999999999]"} {
		if got, err := hosts(list, 9); err == nil {
			t.Errorf("%q: %q", list, got)
		}
	}
}

func FuzzHosts(f *testing.F) {
	for _, s := range []string{"n[1-2],m", "r[1-2]n[01-02]x", "n[1-", "[[1]]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		names, err := hosts(list, 3)
		if err == nil && (len(names) > 3 || list != "" && len(names) == 0) {
			t.Errorf("%q: %q", list, names)
		}
		tasksOn(list, 2)
	})
}

func TestTasksOn(t *testing.T) {
	for _, c := range []struct {
		list       string
		node, want int
	}{{"4", 0, 4}, {"2(x3),1", 0, 2}, {"2(x3),1", 2, 2}, {"2(x3),1", 3, 1}, {"2(x3),1", 4, 0}, {"", 0, 0}, {"2(xy)", 0, 0}} {
		if got := tasksOn(c.list, c.node); got != c.want {
			t.Errorf("%q, node %d: %d, want %d", c.list, c.node, got, c.want)
		}
	}
}

func TestWorkers(t *testing.T) {
	for _, c := range []struct {
		what                   string
		p                      *Place
		allowed, machine, want int
	}{
		{"alone", nil, 8, 8, 8},
		{"one rank", &Place{LocalSize: 1}, 8, 8, 8},
		{"what Slurm gave each", &Place{LocalSize: 4, CPUs: 3}, 64, 64, 3},
		{"what Slurm gave each, bound", &Place{LocalSize: 4, CPUs: 8}, 8, 64, 8},
		{"fewer than Slurm says", &Place{LocalSize: 4, CPUs: 8}, 2, 2, 2},
		{"ranks that see all", &Place{LocalSize: 4}, 64, 64, 16},
		{"ranks bound to cores", &Place{LocalSize: 4}, 1, 64, 1},
		{"ranks bound to one of two sockets", &Place{LocalSize: 8}, 32, 64, 8},
		{"a part of the node", &Place{LocalSize: 4, NodeCPUs: 16}, 64, 64, 4},
		{"more ranks than CPUs", &Place{LocalSize: 8}, 2, 2, 1},
		{"nodes unknown", &Place{}, 8, 8, 8},
	} {
		if got := c.p.Workers(c.allowed, c.machine); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

func TestGPUs(t *testing.T) {
	for _, c := range []struct {
		what     string
		p        *Place
		visible  int
		from, to int
	}{
		{"alone", nil, 4, 0, 4},
		{"one rank", &Place{LocalSize: 1}, 4, 0, 4},
		{"each sees one", &Place{LocalRank: 2, LocalSize: 4, NodeGPUs: 4}, 1, 0, 1},
		{"all see all", &Place{LocalRank: 2, LocalSize: 4, NodeGPUs: 4}, 4, 2, 3},
		{"all see all, unevenly", &Place{LocalRank: 1, LocalSize: 2}, 5, 2, 5},
		{"two each, by the launcher", &Place{LocalRank: 1, LocalSize: 2, NodeGPUs: 4}, 2, 0, 2},
		{"all of the node each, by the launcher", &Place{LocalRank: 1, LocalSize: 2, NodeGPUs: 2, OwnGPUs: true}, 2, 0, 2},
		{"two for four", &Place{LocalRank: 3, LocalSize: 4}, 2, 1, 2},
		{"none", &Place{LocalRank: 3, LocalSize: 4}, 0, 0, 0},
	} {
		if from, to := c.p.GPUs(c.visible); from != c.from || to != c.to {
			t.Errorf("%s: %d to %d, want %d to %d", c.what, from, to, c.from, c.to)
		}
	}
	for visible := range 20 {
		for size := 2; size < 10; size++ {
			seen := make([]int, visible)
			for r := range size {
				from, to := (&Place{LocalRank: r, LocalSize: size}).GPUs(visible)
				if visible > 0 && from >= to {
					t.Fatalf("%d GPUs, rank %d of %d: none", visible, r, size)
				}
				for i := from; i < to; i++ {
					seen[i]++
				}
			}
			for i, n := range seen {
				if n < 1 || visible >= size && n > 1 {
					t.Errorf("%d GPUs, %d ranks: GPU %d is that of %d", visible, size, i, n)
				}
			}
		}
	}
}

package bootstrap

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/dovetail-dedup/dovetail/internal/bootstrap/internal/pmix"
)

// Environ looks up a variable of the environment; "" if it is not set or empty.
type Environ func(name string) string

// Hints are what is known beside the environment.
type Hints struct {
	// Size is the number of ranks, if someone said it; 0 otherwise.
	Size int
	// PMIx says whether libpmix can be used; nil means to try.
	PMIx func() error
}

// Detect finds the launcher that name says, or with [Auto] the innermost there is, and returns what the environment tells
// about this process. It returns nil if this process was not started as a rank: by hand, also inside of an allocation or a
// batch script. It opens and calls nothing. A launcher that was named and is not there is an error.
func Detect(name string, env Environ, h Hints) (*Place, error) {
	if h.PMIx == nil {
		h.PMIx = pmix.Available
	}
	d := detector{env: env, h: h, named: name != Auto}
	switch name {
	case None:
		return nil, nil
	case Auto:
		return d.auto()
	}
	look, ok := d.lookers()[name]
	if !ok {
		return nil, fmt.Errorf("launcher %q: must be one of %s", name, strings.Join(Names(), ", "))
	}
	p, err := look()
	if err == nil && p == nil {
		err = fmt.Errorf("launcher %s: it did not start this process: %s", name, missing[name])
	}
	if err != nil {
		return nil, err
	}
	return p, p.check()
}

// missing says what is not in the environment if a launcher is not there.
var missing = map[string]string{
	PMIx:       "PMIX_NAMESPACE and PMIX_RANK are not set",
	PMI:        "PMI_FD, PMI_RANK and PMI_SIZE are not set",
	OpenMPI:    "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE are not set",
	Slurm:      "there is no SLURM_STEP_ID of a step that srun made, or no SLURM_PROCID and SLURM_NTASKS with it",
	Kubernetes: "JOB_COMPLETION_INDEX is not set, as it is in the pods of Indexed Jobs",
	Env:        "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are not all set",
}

type detector struct {
	env   Environ
	h     Hints
	named bool // by the user
	notes []string
}

func (d *detector) lookers() map[string]func() (*Place, error) {
	return map[string]func() (*Place, error){
		PMIx: d.pmix, PMI: d.pmi, OpenMPI: d.openMPI, Slurm: d.slurm, Kubernetes: d.kubernetes, Env: d.rankEnv,
	}
}

// auto looks for the innermost launcher: what an outer one has set is inherited. So torchrun, which knows nothing of MPI, comes before
// PMIx, and mpirun, whose daemons Slurm may have started, before Slurm.
func (d *detector) auto() (*Place, error) {
	order := []string{PMIx, PMI, OpenMPI, Slurm, Kubernetes, Env}
	if d.env("TORCHELASTIC_RUN_ID") != "" {
		order = slices.Insert(order, 0, Env)
	}
	lookers := d.lookers()
	for _, name := range order {
		p, err := lookers[name]()
		if err != nil {
			return nil, err
		}
		if p != nil {
			p.Notes = append(d.notes, p.Notes...)
			return p, p.check()
		}
	}
	return nil, nil
}

// check refuses numbers that cannot be.
func (p *Place) check() error {
	if p.Size < 0 || p.Rank < 0 || p.Size > 0 && p.Rank >= p.Size {
		return fmt.Errorf("%v says that this process is rank %d of %d, which cannot be; give --launcher none if it is no rank", p, p.Rank, p.Size)
	}
	if p.LocalRank < 0 || p.LocalSize > 0 && p.LocalRank >= p.LocalSize {
		p.LocalRank, p.LocalSize = 0, 0
	}
	return nil
}

// numbers reads variables that must be numbers. ok says that all are set.
func (d *detector) numbers(names ...string) (n []int, ok bool, err error) {
	ok = true
	for _, name := range names {
		v := d.env(name)
		if v == "" {
			ok = false
			n = append(n, 0)
			continue
		}
		k, err := strconv.Atoi(v)
		if err != nil {
			return nil, false, fmt.Errorf("$%s is %q, which is no number; give --launcher none if this process is no rank", name, v)
		}
		n = append(n, k)
	}
	return n, ok, nil
}

// number reads a variable that may be there and may be a number.
func (d *detector) number(name string) int {
	n, err := strconv.Atoi(d.env(name))
	if err != nil {
		return 0
	}
	return n
}

// slurmSpace begins the namespaces that Slurm's plugin makes.
const slurmSpace = "slurm.pmix."

func (d *detector) pmix() (*Place, error) {
	space := d.env("PMIX_NAMESPACE")
	n, ok, err := d.numbers("PMIX_RANK")
	if space == "" || !ok || err != nil {
		return nil, err
	}
	if err := d.h.PMIx(); err != nil {
		if d.named {
			return nil, fmt.Errorf("launcher pmix: %w", err)
		}
		d.notes = append(d.notes, fmt.Sprintf("the launcher serves PMIx, which is not used: %v", err))
		return nil, nil
	}
	var p *Place
	switch {
	case strings.HasPrefix(space, slurmSpace):
		p, err = d.slurm()
	case d.env("OMPI_COMM_WORLD_SIZE") != "":
		p, err = d.openMPI()
	}
	if err != nil {
		return nil, err
	}
	if p == nil || p.Rank != n[0] {
		p = &Place{Launcher: PMIx, Job: space}
	}
	p.Rank, p.Through = n[0], PMIx
	p.ask = func() (kvs, error) { return pmix.Open() }
	return p, nil
}

func (d *detector) pmi() (*Place, error) {
	n, ok, err := d.numbers("PMI_FD", "PMI_RANK", "PMI_SIZE")
	if !ok || err != nil {
		return nil, err
	}
	p, err := d.slurm()
	if err != nil {
		return nil, err
	}
	if p == nil || p.Rank != n[1] || p.Size != n[2] {
		p = &Place{Launcher: PMI, Job: d.env("PMI_JOBID")}
		if local, ok, err := d.numbers("MPI_LOCALRANKID", "MPI_LOCALNRANKS"); ok && err == nil {
			p.LocalRank, p.LocalSize = local[0], local[1]
		}
	}
	p.Rank, p.Size, p.Through = n[1], n[2], PMI
	p.ask = func() (kvs, error) { return openPMI(n[0], n[1], n[2]) }
	return p, nil
}

func (d *detector) openMPI() (*Place, error) {
	n, ok, err := d.numbers("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
	if !ok || err != nil {
		return nil, err
	}
	p := &Place{Launcher: OpenMPI, Job: d.env("PMIX_NAMESPACE"), Rank: n[0], Size: n[1]}
	p.LocalRank, p.LocalSize = d.number("OMPI_COMM_WORLD_LOCAL_RANK"), d.number("OMPI_COMM_WORLD_LOCAL_SIZE")
	if p.LocalSize == p.Size && p.Size > 0 {
		p.Nodes = 1
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.Job))
	p.port = derivedPort(uint64(h.Sum32()))
	return p, nil
}

// Steps of Slurm from here on are not srun's but those of batch scripts, of interactive shells and the like.
const specialSteps = 0xfffffff0

// slurm looks for the environment of a task that srun started. A batch script and a shell in an allocation have much of it, too,
// SLURM_PROCID and SLURM_NTASKS among it; what they lack is the number of a step that srun made.
func (d *detector) slurm() (*Place, error) {
	step := d.env("SLURM_STEP_ID")
	if step == "" {
		step = d.env("SLURM_STEPID")
	}
	id, err := strconv.ParseUint(step, 10, 32)
	if err != nil || id >= specialSteps {
		return nil, nil
	}
	size := "SLURM_STEP_NUM_TASKS"
	if d.env(size) == "" {
		size = "SLURM_NTASKS"
	}
	n, ok, err := d.numbers("SLURM_PROCID", size)
	if !ok || err != nil {
		return nil, err
	}
	job := d.env("SLURM_JOB_ID")
	p := &Place{
		Launcher: Slurm, Job: job + "." + step, Rank: n[0], Size: n[1], LocalRank: d.number("SLURM_LOCALID"),
		Nodes: d.number("SLURM_STEP_NUM_NODES"), Node: d.env("SLURMD_NODENAME"),
		CPUs: d.number("SLURM_CPUS_PER_TASK"), NodeCPUs: d.number("SLURM_CPUS_ON_NODE"), NodeGPUs: d.number("SLURM_GPUS_ON_NODE"),
	}
	p.LocalSize = tasksOn(d.env("SLURM_STEP_TASKS_PER_NODE"), d.number("SLURM_NODEID"))
	if p.Size == 1 {
		p.LocalSize = 1
	}
	bind, _, _ := strings.Cut(strings.TrimPrefix(d.env("SLURM_GPU_BIND"), "verbose,"), ":")
	p.OwnGPUs = d.env("SLURM_GPUS_PER_TASK") != "" || strings.Contains(d.env("SLURM_TRES_PER_TASK"), "gpu") ||
		slices.Contains([]string{"single", "per_task", "map_gpu", "mask_gpu"}, bind)
	nodes, err := hosts(d.env("SLURM_STEP_NODELIST"), 2)
	if err != nil {
		return nil, fmt.Errorf("$SLURM_STEP_NODELIST: %w", err)
	}
	if len(nodes) > 0 {
		p.first = nodes[0]
	}
	if len(nodes) > 1 {
		p.other = nodes[1]
	}
	if p.Nodes == 0 {
		p.Nodes = len(nodes) // which is right for one
	}
	number, _ := strconv.ParseUint(job, 10, 64)
	p.port = derivedPort(number + 101*id)
	return p, nil
}

// kubernetes looks for the index of a pod of an Indexed Job. Such jobs are used, too, for pods that have nothing to do with each
// other; so it counts only where someone has said how many there are, which Kubernetes does not.
func (d *detector) kubernetes() (*Place, error) {
	n, ok, err := d.numbers("JOB_COMPLETION_INDEX")
	if !ok || err != nil {
		return nil, err
	}
	if d.h.Size == 0 {
		if d.named {
			return nil, errors.New("launcher kubernetes: give the number of pods, the Job's completions, as DOVETAIL_SIZE or --size")
		}
		return nil, nil
	}
	return &Place{Launcher: Kubernetes, Rank: n[0], Size: d.h.Size}, nil
}

// rankEnv looks for the variables of torchrun, which other launchers set as well.
func (d *detector) rankEnv() (*Place, error) {
	for _, name := range []string{"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} {
		if d.env(name) == "" {
			return nil, nil
		}
	}
	n, _, err := d.numbers("RANK", "WORLD_SIZE", "MASTER_PORT")
	if err != nil {
		return nil, err
	}
	p := &Place{Launcher: Env, Rank: n[0], Size: n[1], Job: d.env("TORCHELASTIC_RUN_ID")}
	if p.Job == "none" { // torchrun's default
		p.Job = ""
	}
	p.LocalRank, p.LocalSize = d.number("LOCAL_RANK"), d.number("LOCAL_WORLD_SIZE")
	port := n[2]
	if d.env("TORCHELASTIC_USE_AGENT_STORE") == "True" {
		port++ // torchrun itself listens at the port
	}
	p.Root = net.JoinHostPort(d.env("MASTER_ADDR"), fmt.Sprint(port))
	return p, nil
}

// Ports that follow from numbers of jobs are below those that systems give out by themselves.
const (
	firstPort = 20000
	ports     = 10000
)

func derivedPort(n uint64) int { return firstPort + int(n%ports) }

// PMIxAvailable returns nil if this program can use PMIx here, or why not.
func PMIxAvailable() error { return pmix.Available() }

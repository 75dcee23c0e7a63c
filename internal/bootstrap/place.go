package bootstrap

import (
	"fmt"
	"strings"
)

// Names of launchers, for [Detect] and [Place].Launcher.
const (
	Auto       = "auto"       // whichever the environment speaks of
	None       = "none"       // no launcher, whatever the environment says
	PMIx       = "pmix"       // any launcher that serves PMIx: mpirun of Open MPI, srun --mpi=pmix, prterun
	PMI        = "pmi"        // any launcher that serves PMI-1: mpiexec of MPICH and its likes, srun --mpi=pmi2
	OpenMPI    = "openmpi"    // mpirun of Open MPI, without PMIx
	Slurm      = "slurm"      // srun, without PMIx and PMI
	Kubernetes = "kubernetes" // an Indexed Job
	Env        = "env"        // RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun and its likes set them
)

// Names lists what [Detect] takes, in the order in which Auto looks for them, but for a torchrun, which it looks for first.
func Names() []string { return []string{Auto, None, PMIx, PMI, OpenMPI, Slurm, Kubernetes, Env} }

// Place is where a launcher has put this process among the ranks of a job.
type Place struct {
	// Launcher is who started the ranks: OpenMPI, Slurm, Kubernetes, Env, or PMIx or PMI where no more is known.
	Launcher string
	// Through says how ranks exchange addresses: PMIx, PMI, or "" for the environment.
	Through string
	// Job tells jobs of one launcher apart; it is empty if the launcher gives no number.
	Job string
	// Rank and Size are those of the job. Size is 0 if only [Place.Ask] can tell.
	Rank, Size int
	// LocalRank counts the ranks on this node from 0, LocalSize is their number; 0 if that is not known.
	LocalRank, LocalSize int
	// Nodes is the number of nodes, 0 if that is not known.
	Nodes int
	// Node is the launcher's name of this node, or empty.
	Node string
	// CPUs is what the launcher gave this rank, and NodeCPUs what it gave the job on this node; 0 if that is not known.
	CPUs, NodeCPUs int
	// NodeGPUs is the number of GPUs that the launcher gave the job on this node, 0 if that is not known. OwnGPUs says that it shows
	// each rank its own only.
	NodeGPUs int
	OwnGPUs  bool
	// Root is the address of rank 0 as the environment has it: empty, a host or host:port.
	Root string
	// Notes are lines worth showing.
	Notes []string

	first, other string // nodes of Slurm: that of rank 0, and one more
	port         int    // of rank 0, if nobody says another
	ask          func() (kvs, error)
	open         kvs // since Ask
}

// String says in a few words who started this process, such as "slurm, job 12.0, through PMIx".
func (p *Place) String() string {
	parts := []string{p.Launcher}
	if p.Job != "" {
		parts = append(parts, "job "+p.Job)
	}
	if p.Through != "" {
		parts = append(parts, "through "+p.through())
	}
	return strings.Join(parts, ", ")
}

func (p *Place) through() string {
	switch p.Through {
	case PMIx:
		return "PMIx"
	case PMI:
		return "PMI"
	}
	return p.Through
}

// Describe is a line that says what [Detect] found.
func (p *Place) Describe() string {
	size := "?"
	if p.Size > 0 {
		size = fmt.Sprint(p.Size)
	}
	line := fmt.Sprintf("rank %d of %s", p.Rank, size)
	if p.LocalSize > 0 {
		line += fmt.Sprintf(", %d of %d on this node", p.LocalRank, p.LocalSize)
	}
	return line + ": " + p.String()
}

// Workers returns how many CPUs are for this rank. allowed is how many this process may use, by its affinity and quota, and machine
// is what there is for all processes that the launcher has started here.
func (p *Place) Workers(allowed, machine int) int {
	n := max(1, allowed)
	if p == nil {
		return n
	}
	if p.CPUs > 0 {
		return min(n, p.CPUs)
	}
	if p.LocalSize > 1 {
		// Ranks that are bound to CPUs of their own keep them; those that see the same CPUs share them.
		if p.NodeCPUs > 0 {
			machine = min(machine, p.NodeCPUs)
		}
		n = min(n, max(1, machine/p.LocalSize))
	}
	return n
}

// GPUs returns which of the devices that this process sees are for it: those from from to, not including, to. Ranks that see
// the same devices divide them by their numbers on the node. A launcher that shows each its own has divided them already.
func (p *Place) GPUs(visible int) (from, to int) {
	switch {
	case p == nil || p.LocalSize <= 1 || visible <= 1 || p.OwnGPUs || p.NodeGPUs > 0 && visible < p.NodeGPUs:
		return 0, visible
	case visible < p.LocalSize:
		r := p.LocalRank % visible
		return r, r + 1
	}
	return p.LocalRank * visible / p.LocalSize, (p.LocalRank + 1) * visible / p.LocalSize
}

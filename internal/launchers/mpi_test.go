package launchers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// openMPI is the command that starts n ranks with Open MPI. recover has it leave the others alone when one dies.
func openMPI(t *testing.T, n int, recover bool, more ...string) []string {
	t.Helper()
	need(t, "mpirun.openmpi")
	args := []string{"mpirun.openmpi", "-n", fmt.Sprint(n), "--oversubscribe"}
	if recover {
		if version := runs(t, mpiEnv(), "mpirun.openmpi", "--version"); strings.Contains(version, " 4.") {
			args = append(args, "--enable-recovery")
		} else {
			args = append(args, "--runtime-options", "recoverable")
		}
	}
	return append(args, more...)
}

func mpiEnv(more ...string) []string {
	return environ(append(more, "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")...)
}

// TestMpirun: 1, 2, 4 and 8 ranks give the result of one process, and run.json says who did the work.
func TestMpirun(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		out := filepath.Join(t.TempDir(), "out")
		runs(t, mpiEnv(), append(openMPI(t, n, false), dedup(t, program, out)...)...)
		what := fmt.Sprintf("mpirun -n %d", n)
		r := check(t, what, out)
		if r.Ranks != n || len(r.Stages.Hosts) != n || !strings.HasPrefix(r.Stages.Launcher, "openmpi, job ") || !strings.HasSuffix(r.Stages.Launcher, ", through PMIx") {
			t.Errorf("%s: %+v", what, r)
		}
	}
}

// TestMpirunWithoutPMIx: on one machine the environment is enough, with a build that has no PMIx and where libpmix is missing.
func TestMpirunWithoutPMIx(t *testing.T) {
	for _, c := range []struct {
		bin string
		env []string
	}{{plain, nil}, {program, []string{"DOVETAIL_PMIX_LIBRARY=/nowhere/libpmix.so"}}} {
		out := filepath.Join(t.TempDir(), "out")
		runs(t, mpiEnv(c.env...), append(openMPI(t, 3, false), dedup(t, c.bin, out)...)...)
		if r := check(t, "mpirun", out); r.Ranks != 3 || strings.Contains(r.Stages.Launcher, "PMIx") {
			t.Errorf("%+v", r)
		}
	}
}

// TestMpirunKilled kills ranks of mpirun.
func TestMpirunKilled(t *testing.T) {
	for _, victim := range []int{2, 0} {
		killOne(t, "OMPI_COMM_WORLD_RANK", victim, func(out string) (env, args []string) {
			return mpiEnv(), append(openMPI(t, 4, true), dedup(t, program, out)...)
		})
	}
}

// TestMpirunOptions: what users say comes before what the launcher says.
func TestMpirunOptions(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	runs(t, mpiEnv(), append(openMPI(t, 2, false), dedup(t, program, out, "--root-port", "0", "--data-host", "lo")...)...)
	check(t, "--data-host", out)
	fails(t, mpiEnv(), "--size 3, but openmpi", append(openMPI(t, 2, false), dedup(t, program, out+"2", "--size", "3")...)...)
	fails(t, mpiEnv(), "--ranks: openmpi", append(openMPI(t, 2, false), dedup(t, program, out+"2", "--ranks", "3")...)...)
	fails(t, mpiEnv(), "did not start this process", append(openMPI(t, 2, false), dedup(t, program, out+"2", "--launcher", "slurm")...)...)
}

// TestMpiexec: MPICH's launcher, whose PMI needs no library.
func TestMpiexec(t *testing.T) {
	need(t, "mpiexec.hydra")
	out := filepath.Join(t.TempDir(), "out")
	runs(t, environ(), append([]string{"mpiexec.hydra", "-n", "3"}, dedup(t, plain, out)...)...)
	if r := check(t, "mpiexec", out); r.Ranks != 3 || r.Stages.Launcher != "pmi, through PMI" {
		t.Errorf("%+v", r)
	}
}

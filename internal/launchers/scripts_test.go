package launchers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// deployed is the path of a script that users get.
func deployed(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../deploy", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// script: deploy/slurm.sbatch does what it says, and says so when the result is there already.
func (s *slurm) script(t *testing.T) {
	log := filepath.Join(s.dir, "script.out")
	for i, c := range []struct{ mpi, bin string }{{"", plain}, {"pmix", program}} {
		out := filepath.Join(t.TempDir(), "out")
		env := s.env("INPUT="+input().dir, "OUTPUT="+out, "DOVETAIL="+c.bin, "MPI="+c.mpi)
		for range 2 - i {
			runs(t, env, s.command("sbatch", "--wait", "--ntasks-per-node=2", "--cpus-per-task=2", "--mem-per-cpu=200", "--output="+log,
				deployed(t, "slurm.sbatch"), "--rank-timeout", "5s")...)
		}
		said, err := os.ReadFile(log)
		if r := check(t, "slurm.sbatch", out); r.Ranks != 4 || r.Stages.Workers != 2 || err != nil || strings.Contains(string(said), "already done") != (i == 0) {
			t.Errorf("%+v, %s, %v", r, said, err)
		}
	}
}

// TestMpirunScript: deploy/mpirun.sh does what it says, goes on when rank 0 dies, and gives up on a command line that is wrong.
func TestMpirunScript(t *testing.T) {
	need(t, "mpirun.openmpi")
	out := filepath.Join(t.TempDir(), "out")
	environ := func(out string) []string {
		return mpiEnv("MPIRUN=mpirun.openmpi", "MPIRUN_FLAGS=--oversubscribe", "RANKS=3", "INPUT="+input().dir, "OUTPUT="+out, "DOVETAIL="+program)
	}
	env := environ(out)
	killOne(t, "OMPI_COMM_WORLD_RANK", 0, func(out string) (env, args []string) { return environ(out), []string{deployed(t, "mpirun.sh")} })
	runs(t, env, deployed(t, "mpirun.sh"), "--rank-timeout", "5s")
	if r := check(t, "mpirun.sh", out); r.Ranks != 3 {
		t.Errorf("%+v", r)
	}
	r := start(t, env, deployed(t, "mpirun.sh"), "--no-such-option")
	if err := r.wait(t, testLimit); err == nil || strings.Contains(r.said.String(), "try 1") || !strings.Contains(r.said.String(), "unknown flag") {
		t.Errorf("%v: %s", err, r.said.String())
	}
}

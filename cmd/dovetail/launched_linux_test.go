package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// startWith starts a process with more in its environment.
func startWith(t *testing.T, env []string, args ...string) *rank {
	t.Helper()
	k := &rank{done: make(chan error, 1)}
	k.Cmd = child(t, args...)
	k.Env = append(k.Env, env...)
	k.Stdout, k.Stderr = &k.out, &k.err
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { k.done <- k.Wait() }()
	return k
}

// TestLaunchedByEnvironment: processes that are given the same command, and are told apart by what launchers set.
func TestLaunchedByEnvironment(t *testing.T) {
	in, digest, _ := jobInput(t)
	for _, c := range []struct {
		name string
		env  func(rank int, addr, port string) []string
	}{
		{"env, job 7", func(rank int, addr, port string) []string {
			return []string{fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=3", fmt.Sprintf("LOCAL_RANK=%d", rank), "LOCAL_WORLD_SIZE=3", "MASTER_ADDR=127.0.0.1",
				"MASTER_PORT=" + port, "TORCHELASTIC_RUN_ID=7"}
		}},
		{"kubernetes", func(rank int, addr, port string) []string {
			return []string{fmt.Sprintf("JOB_COMPLETION_INDEX=%d", rank), "DOVETAIL_SIZE=3", "DOVETAIL_ROOT=" + addr, "DOVETAIL_SECRET=0123456789abcdef0123456789abcdef"}
		}},
		{"", func(rank int, addr, port string) []string {
			return []string{fmt.Sprintf("DOVETAIL_RANK=%d", rank), "DOVETAIL_SIZE=3", "DOVETAIL_ROOT=" + addr, "RANK=9", "WORLD_SIZE=1"}
		}},
	} {
		dir := t.TempDir()
		out, log := filepath.Join(dir, "out"), filepath.Join(t.TempDir(), "log")
		addr := freeAddr(t)
		var ranks []*rank
		args := []string{"dedup", "--progress", "none", "--input", in, "--output", out}
		if c.name != "" {
			args = append(args, "--event-log", log)
		}
		for r := range 3 {
			ranks = append(ranks, startWith(t, c.env(r, addr, addr[strings.LastIndex(addr, ":")+1:]), args...))
		}
		for r, k := range ranks {
			if err := k.wait(t, 3*time.Minute); err != nil {
				t.Errorf("%q: rank %d: %v: %s", c.name, r, err, k.err.String())
			}
		}
		res, err := dedup.ReadResult(out)
		if err != nil {
			t.Fatal(err)
		}
		if res.Digest != digest || res.Ranks != 3 || res.Stages.Launcher != c.name || len(res.Stages.Hosts) != 3 {
			t.Errorf("%q: digest %s, want %s; %d ranks, launcher %q, hosts %q", c.name, res.Digest, digest, res.Ranks, res.Stages.Launcher, res.Stages.Hosts)
		}
		for r, name := range []string{"log", "log.1", "log.2"} {
			data, err := os.ReadFile(filepath.Join(filepath.Dir(log), name))
			if c.name != "" && (err != nil || !bytes.Contains(data, []byte(`"stage"`))) {
				t.Errorf("%q: event log of rank %d: %q, %v", c.name, r, data, err)
			}
		}
	}
}

// TestLaunchedMistakes: what launchers and users say that does not fit is said in one line.
func TestLaunchedMistakes(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in")
	writeDocs(t, filepath.Join(in, "a.jsonl"), 20)
	out := filepath.Join(t.TempDir(), "out")
	two := []string{"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + strings.TrimPrefix(freeAddr(t), "127.0.0.1:")}
	for _, c := range []struct {
		env, args []string
		code      int
		want      string
	}{
		{nil, []string{"--launcher", "lsf"}, 2, "must be one of auto, none, pmix, pmi, openmpi, slurm, kubernetes, env"},
		{nil, []string{"--launcher", "slurm"}, 2, "it did not start this process: there is no SLURM_STEP_ID"},
		{nil, []string{"--root", "h:1"}, 2, "a launcher that says it; none was found"},
		{[]string{"DOVETAIL_LAUNCHER=env"}, nil, 2, "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are not all set"},
		{two, []string{"--size", "3"}, 2, "--size 3, but env has started 2 ranks"},
		{two, []string{"--ranks", "2"}, 2, "env has started 2 ranks already"},
		{two, []string{"--root-port", "70000"}, 2, "--root-port 70000: must be"},
		{two, []string{"--root-port", "7000", "--root", "h:1"}, 2, "the port is in --root"},
		{two, []string{"--data-host", "203.0.113.0/24"}, 2, "--data-host: this machine has no address in 203.0.113.0/24"},
		{two, []string{"--data-ports", "40000-"}, 2, `--data-ports "40000-": give ports`},
		{two, []string{"--isolation", "process"}, 2, "--isolation process"},
		{two, []string{"--join-timeout", "100ms"}, 1, "this is rank 1 of 2 by env: if it is meant to work alone give --launcher none"},
		{append(two, "MASTER_ADDR=203.0.113.7"), nil, 1, "whoever set RANK and WORLD_SIZE started 2 ranks, and nothing gives them a secret: export DOVETAIL_SECRET="},
		{append(two, "DOVETAIL_SECRET=short"), nil, 1, "the secret has 5 bytes"},
		{append(two, "RANK=2"), nil, 2, "rank 2 of 2, which cannot be"},
		{append(two, "RANK=x"), []string{"--launcher", "none"}, 0, ""},
	} {
		k := startWith(t, c.env, append([]string{"dedup", "--progress", "none", "--input", in, "--output", out}, c.args...)...)
		_ = k.wait(t, 3*time.Minute)
		said := k.err.String()
		if code := k.ProcessState.ExitCode(); code != c.code || !strings.Contains(said, c.want) || c.want != "" && strings.Count(said, "\n") != 1 {
			t.Errorf("%q %q: %d %q, want %d and %q", c.env, c.args, code, said, c.code, c.want)
		}
	}
}

// TestKubernetesManifest starts the processes of deploy/kubernetes.yaml as its pods would be, but for paths and the name of rank 0.
func TestKubernetesManifest(t *testing.T) {
	data, err := os.ReadFile("../../deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	one := func(re string) string {
		found := regexp.MustCompile(re).FindAllSubmatch(data, -1)
		if len(found) != 1 {
			t.Fatalf("%s is there %d times", re, len(found))
		}
		return string(found[0][1])
	}
	size := one(`(?m)^  completions: (\d+)`)
	if got := one(`(?m)^  parallelism: (\d+)`); got != size {
		t.Errorf("%s completions, %s at a time", size, got)
	}
	args := strings.Split(one(`(?m)^ +args: \[(.*)\]$`), ", ")
	env := make(map[string]string)
	for _, m := range regexp.MustCompile(`\{name: (DOVETAIL_\w+), value: "?([^"}]*)"?\}`).FindAllSubmatch(data, -1) {
		env[string(m[1])] = string(m[2])
	}
	name := one(`(?m)^kind: Job\nmetadata:\n  name: (\w+)`)
	subdomain := one(`(?m)^ +subdomain: (\w+)`)
	if env["DOVETAIL_SIZE"] != size || env["DOVETAIL_ROOT"] != name+"-0."+subdomain+":7600" || len(env) != 3 {
		t.Errorf("%s completions of %s in %s, and %q", size, name, subdomain, env)
	}
	in, digest, _ := jobInput(t)
	dir := t.TempDir()
	secret, out := filepath.Join(dir, "secret"), filepath.Join(dir, "clean")
	writeFile(t, secret, "0123456789abcdef0123456789abcdef")
	if !strings.HasPrefix(env["DOVETAIL_SECRET_FILE"], one(`name: secret, mountPath: ([^,]+),`)+"/") {
		t.Errorf("the secret is read from %s", env["DOVETAIL_SECRET_FILE"])
	}
	env["DOVETAIL_SECRET_FILE"], env["DOVETAIL_ROOT"] = secret, freeAddr(t)
	for i, a := range args {
		args[i] = strings.NewReplacer("/data/in", in, "/data/clean", out, "plain", "none").Replace(a)
	}
	n, err := strconv.Atoi(size)
	if err != nil {
		t.Fatal(err)
	}
	var ranks []*rank
	for r := range n {
		list := []string{fmt.Sprintf("JOB_COMPLETION_INDEX=%d", r)}
		for k, v := range env {
			list = append(list, k+"="+v)
		}
		ranks = append(ranks, startWith(t, list, args...))
	}
	for r, k := range ranks {
		if err := k.wait(t, 3*time.Minute); err != nil {
			t.Errorf("rank %d: %v: %s", r, err, k.err.String())
		}
	}
	if got := readDigest(t, out); got != digest {
		t.Errorf("digest %s, want %s", got, digest)
	}
}

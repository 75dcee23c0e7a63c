package launchers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// networks makes a network namespace for the controller and one for each of two nodes, joined by a bridge in the first. Commands inside of
// them see the nodes' names as those of machines.
func networks(t *testing.T) where {
	t.Helper()
	need(t, "ip", "nsenter", "unshare")
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: network namespaces need root")
	}
	at := where{controller: "10.77.0.254", addr: [2]string{"10.77.0.1", "10.77.0.2"}}
	name := func(i int) string { return fmt.Sprintf("dvl%d-%d", os.Getpid(), i) }
	hosts := filepath.Join(t.TempDir(), "hosts")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("127.0.0.1 localhost\n%s %s\n%s n1\n%s n2\n", at.controller, host, at.addr[0], at.addr[1])
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ip := func(args string) {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: no network namespaces here: ip %s: %v: %s", args, err, out)
		}
	}
	for i := range 3 {
		ip("netns add " + name(i))
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name(i)).Run() })
		ip("-n " + name(i) + " link set lo up")
		at.inside[i] = []string{"nsenter", "--net=/run/netns/" + name(i), "unshare", "--mount", "--propagation", "private",
			"sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts}
	}
	ip("-n " + name(0) + " link add br0 type bridge")
	ip("-n " + name(0) + " addr add 10.77.0.254/24 dev br0")
	ip("-n " + name(0) + " link set br0 up")
	for i := 1; i <= 2; i++ {
		ip(fmt.Sprintf("-n %s link add n%d type veth peer name eth0 netns %s", name(0), i, name(i)))
		ip(fmt.Sprintf("-n %s link set n%d master br0 up", name(0), i))
		ip(fmt.Sprintf("-n %s addr add 10.77.0.%d/24 dev eth0", name(i), i))
		ip(fmt.Sprintf("-n %s link set eth0 up", name(i)))
		// As bridges of containers have it: the same address on both.
		ip(fmt.Sprintf("-n %s link add docker0 type bridge", name(i)))
		ip(fmt.Sprintf("-n %s addr add 172.17.0.1/16 dev docker0", name(i)))
		ip(fmt.Sprintf("-n %s link set docker0 up", name(i)))
	}
	return at
}

// crossed is how many bytes have come to a node.
func (at *where) crossed(t *testing.T, node int) int {
	t.Helper()
	args := append(append([]string(nil), at.inside[node]...), "cat", "/proc/net/dev")
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "eth0:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no eth0: %s", out)
	return 0
}

// TestSlurmNetworks: two nodes that have addresses of their own. Rank 0 is found at that of its node, by every way, and the data crosses
// the network.
func TestSlurmNetworks(t *testing.T) {
	need(t)
	at := networks(t)
	s := newSlurm(t, at)
	const secret = "DOVETAIL_SECRET=0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		mpi, bin string
		env      []string
		args     []string
	}{
		{"pmix", program, nil, nil},
		{"pmi2", plain, nil, nil},
		{"none", plain, []string{secret}, nil},
		{"pmix", program, []string{"DOVETAIL_DATA_HOST=eth0"}, nil},
		{"pmi2", plain, nil, []string{"--data-host", "10.77.0.0/16", "--root-port", "7601", "--data-ports", "28000-28099"}},
	} {
		out := filepath.Join(t.TempDir(), "out")
		before := at.crossed(t, 1)
		runs(t, s.env(c.env...), append(s.srun(c.mpi, 2, 4), dedup(t, c.bin, out, c.args...)...)...)
		r := check(t, c.mpi, out)
		if hosts := strings.Join(r.Stages.Hosts, " "); hosts != "n1 n1 n2 n2" {
			t.Errorf("%s: %s", c.mpi, hosts)
		}
		if n := at.crossed(t, 1) - before; n < 1<<16 {
			t.Errorf("%s: only %d bytes have crossed the network", c.mpi, n)
		}
	}
	for _, victim := range []int{3, 0} {
		killOne(t, "SLURM_PROCID", victim, func(out string) (env, args []string) {
			return s.env(), append(s.srun("pmix", 2, 4), dedup(t, program, out)...)
		})
	}
}

//go:build ucx && cgo && linux

package ucx

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// listening returns the TCP ports at which this process listens, as the system says.
func listening(t *testing.T) (ports []int) {
	t.Helper()
	mine := make(map[string]bool)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, f := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + f.Name()) // the one of the folder is gone
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			mine[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
			fields := strings.Fields(s.Text())
			if len(fields) < 10 || fields[3] != "0A" || !mine[fields[9]] {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(port))
		}
	}
	slices.Sort(ports)
	return ports
}

// TestPortRange: UCX listens at ports of the range and no others, says if none is free, and does not wait for ever then.
func TestPortRange(t *testing.T) {
	t.Setenv("UCX_TCP_PORT_RANGE", "")
	os.Unsetenv("UCX_TCP_PORT_RANGE")
	const first, last = 28741, 28745
	set := map[string]string{"TLS": "tcp", "NET_DEVICES": "lo", "TCP_PORT_RANGE": fmt.Sprintf("%d-%d", first, last)}
	c, err := Open(Config{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	const way = "tcp+ports"
	contexts[way] = c
	t.Cleanup(func() {
		delete(contexts, way)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	before := listening(t)
	ts := connectRanks(t, way, 2, nil)
	bufs := allocate(t, mem.Host(), 2, 3<<20)
	defer release(bufs)
	exchange(t, ts, bufs[:1:1], bufs[1:])
	var added []int
	for _, p := range listening(t) {
		if !slices.Contains(before, p) {
			added = append(added, p)
		}
	}
	if len(added) != 2 || added[0] < first || added[1] > last {
		t.Errorf("two ranks listen at %v", added)
	}

	// Whatever is left is taken by others.
	var others []net.Listener
	for port := first; port <= last; port++ {
		if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			others = append(others, l)
		}
	}
	if p, err := c.Listen(); err == nil || err.Error() != "ucx: none of the ports 28741-28745 is free" {
		if err == nil {
			p.Close()
		}
		t.Errorf("a sixth: %v", err)
	}
	if len(others) == 0 {
		t.Fatal("nothing was left")
	}
	for _, l := range others {
		l.Close()
	}
	p, err := c.Listen()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}

// The range is the environment's, then ours, and none where UCX does not listen.
func TestPortsOf(t *testing.T) {
	t.Setenv("UCX_TCP_PORT_RANGE", "")
	os.Unsetenv("UCX_TCP_PORT_RANGE")
	tcp := []string{"sysv/memory", "tcp/eth0"}
	set := map[string]string{"TCP_PORT_RANGE": "500-600"}
	for _, c := range []struct {
		set        map[string]string
		transports []string
		want       portRange
	}{{set, tcp, portRange{500, 600}}, {set, tcp[:1], portRange{}}, {nil, tcp, portRange{}}, {map[string]string{"TCP_PORT_RANGE": "700"}, tcp, portRange{700, 700}}} {
		if got := portsOf(c.set, c.transports); got != c.want {
			t.Errorf("%v: %v", c, got)
		}
	}
	t.Setenv("UCX_TCP_PORT_RANGE", "800-900")
	if got := portsOf(set, tcp); got != (portRange{800, 900}) {
		t.Error(got)
	}
}

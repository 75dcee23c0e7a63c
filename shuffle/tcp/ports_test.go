package tcp

import (
	"net"
	"strings"
	"testing"
)

// TestPorts: listeners get the ports of a range, each once, and then none.
func TestPorts(t *testing.T) {
	// Five in a row, of which others may take some at any time.
	const first, n = 28731, 5
	network := PortRange{first, first + n - 1}.Network(System)
	got := make(map[int]bool)
	for range n {
		l, err := network.Listen("127.0.0.1:0")
		if err != nil {
			if !strings.Contains(err.Error(), "none of the ports 28731-28735 of 127.0.0.1 is free") {
				t.Errorf("after %v: %v", got, err)
			}
			break
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if port < first || port >= first+n || got[port] {
			t.Errorf("port %d after %v", port, got)
		}
		got[port] = true
	}
	if len(got) == 0 {
		t.Error("no port")
	}
	if l, err := network.Listen("127.0.0.1:0"); err == nil {
		l.Close()
		t.Errorf("there are more than %d ports: %v", n, l.Addr())
	}
	if l, err := network.Listen("203.0.113.1:0"); err == nil || strings.Contains(err.Error(), "none of the ports") {
		t.Errorf("an address of another machine: %v, %v", l, err)
	}
}

func TestParsePortRange(t *testing.T) {
	for text, want := range map[string]PortRange{"": {}, "5": {5, 5}, "40000-40999": {40000, 40999}} {
		r, err := ParsePortRange(text)
		if r != want || err != nil {
			t.Errorf("%q: %v, %v", text, r, err)
		}
		if again, err := ParsePortRange(r.String()); again != r || err != nil {
			t.Errorf("%q is said as %q: %v, %v", text, r, again, err)
		}
	}
	for _, text := range []string{"0-5", "5-4", "5-70000", "-", "5-", "-5", "some", "5-6-7", " 5"} {
		if r, err := ParsePortRange(text); err == nil || !r.Any() {
			t.Errorf("%q is accepted: %v", text, r)
		}
	}
	if (PortRange{}).Network(System) != System {
		t.Error("any port is not the network as it is")
	}
}

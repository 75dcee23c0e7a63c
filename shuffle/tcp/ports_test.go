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
	network, err := Ports(System, first, first+n-1)
	if err != nil {
		t.Fatal(err)
	}
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
	for _, r := range [][2]int{{0, 5}, {5, 4}, {5, 70000}} {
		if _, err := Ports(System, r[0], r[1]); err == nil {
			t.Errorf("%v is accepted", r)
		}
	}
}

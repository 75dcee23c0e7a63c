package locality

import (
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
)

// machine has two sockets. GPU 18 and ib0 are below one switch, GPU 3b is at another bridge of the same root, ib1 at another root of the second
// socket, where GPU 86 is at yet another. eth0 is at the first socket, behind virtio, and bond0 is no device.
func machine() fstest.MapFS {
	m := fstest.MapFS{}
	link := func(name, to string) { m[name] = &fstest.MapFile{Data: []byte(to), Mode: os.ModeSymlink} }
	text := func(name, what string) { m[name] = &fstest.MapFile{Data: []byte(what + "\n")} }
	gpu := func(address, way, node, cpus string) {
		link("bus/pci/devices/"+address, "../../../devices/"+way+"/"+address)
		text("devices/"+way+"/"+address+"/numa_node", node)
		text("devices/"+way+"/"+address+"/local_cpulist", cpus)
		text("devices/"+way+"/"+address+"/vendor", "0x10de")
		text("devices/"+way+"/"+address+"/class", "0x030200")
	}
	net := func(name, way, node string) {
		link("class/net/"+name, "../../devices/"+way+"/net/"+name)
		link("devices/"+way+"/net/"+name+"/device", "../..")
		if node != "" {
			text("devices/"+way+"/numa_node", node)
		}
	}
	gpu("0000:18:00.0", "pci0000:15/0000:15:01.0/0000:16:00.0", "0", "0-3,8-11")
	net("ib0", "pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0", "0")
	gpu("0000:3b:00.0", "pci0000:15/0000:15:02.0", "0", "0-3,8-11")
	net("ib1", "pci0000:a0/0000:a0:01.0/0000:a1:00.0", "1")
	gpu("0000:86:00.0", "pci0000:80/0000:80:01.0", "1", "4-7,12-15")
	net("eth0", "pci0000:00/0000:00:03.0/virtio0", "0")
	net("bond0", "virtual", "")
	return m
}

func TestNearest(t *testing.T) {
	all := []string{"bond0", "eth0", "ib0", "ib1"}
	for gpu, want := range map[string][]string{
		"00000000:18:00.0": {"ib0"}, // below the same switch
		"0000:3B:00.0":     {"ib0"}, // at the same root
		"86:00.0":          all,     // no address
		"0000:86:00.0":     {"ib1"}, // at the same socket
		"0000:99:00.0":     all,     // not there
		"":                 all,     //
		"0000:../../..":    all,     //
		"0000:18:00.0/x":   all,     //
	} {
		if got := Nearest(machine(), gpu, all); !reflect.DeepEqual(got, want) {
			t.Errorf("nearest to %q is %v, want %v", gpu, got, want)
		}
	}
	if got := Nearest(machine(), "0000:18:00.0", []string{"bond0", "../ib0", ""}); len(got) != 3 {
		t.Errorf("of what is no device %v is nearest", got)
	}
	if got := Nearest(machine(), "0000:18:00.0", []string{"eth0", "ib1"}); !reflect.DeepEqual(got, []string{"eth0"}) {
		t.Errorf("nearest of the same node is %v", got)
	}
}

func TestNodesAndCPUs(t *testing.T) {
	for gpu, want := range map[string]struct {
		node int
		cpus []int
	}{
		"00000000:18:00.0": {0, []int{0, 1, 2, 3, 8, 9, 10, 11}},
		"0000:86:00.0":     {1, []int{4, 5, 6, 7, 12, 13, 14, 15}},
		"0000:99:00.0":     {-1, nil},
		"none":             {-1, nil},
	} {
		if n, cpus := NUMANode(machine(), gpu), CPUs(machine(), gpu); n != want.node || !reflect.DeepEqual(cpus, want.cpus) {
			t.Errorf("%s: node %d, CPUs %v, want %v", gpu, n, cpus, want)
		}
	}
	// A switch of NVIDIA's is no GPU.
	m := machine()
	m["bus/pci/devices/0000:19:00.0/local_cpulist"] = &fstest.MapFile{Data: []byte("0-3,8-11\n")}
	m["bus/pci/devices/0000:19:00.0/vendor"] = &fstest.MapFile{Data: []byte("0x10de\n")}
	m["bus/pci/devices/0000:19:00.0/class"] = &fstest.MapFile{Data: []byte("0x068000\n")}
	for gpu, want := range map[string]int{"0000:18:00.0": 2, "0000:3b:00.0": 2, "0000:86:00.0": 1, "0000:99:00.0": 0, "": 0} {
		if n := GPUsNear(m, gpu); n != want {
			t.Errorf("%d GPUs are near %q, want %d", n, gpu, want)
		}
	}
	if n := NUMANode(System(), "0000:ff:1f.7"); n != -1 {
		t.Errorf("what is not there is at node %d", n)
	}
}

func TestParseCPUs(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "8,0-3": 5, "0-3,2-4": 5, "": 0, "x": 0, "3-1": 0, "-1": 0, "0-99999999999": 0, "0-70000": 0, "1,": 0} {
		if got := ParseCPUs(list); len(got) != want {
			t.Errorf("%q has CPUs %v, want %d", list, got, want)
		}
	}
}

// A process binds itself to one processor, and all its threads are there: those that were, and new ones.
func TestBind(t *testing.T) {
	cpus, err := Allowed()
	if err != nil {
		t.Skip(err)
	}
	if os.Getenv("LOCALITY_BINDS") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestBind$", "-test.v")
		c.Env = append(os.Environ(), "LOCALITY_BINDS=1")
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "threads are bound") {
			t.Errorf("%v: %s", err, out)
		}
		for _, bad := range [][]int{nil, {-1}, {1 << 20}, {cpus[0], cpus[0]}} {
			if Bind(bad) == nil {
				t.Errorf("bound to %v", bad)
			}
		}
		return
	}
	own := cpus[len(cpus)-1:]
	if err := Bind(own); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		done := make(chan []int)
		go func() {
			runtime.LockOSThread() // its thread ends with it
			got, err := Allowed()
			if err != nil {
				t.Error(err)
			}
			done <- got
		}()
		if got := <-done; !reflect.DeepEqual(got, own) {
			t.Fatalf("a thread may run on %v, not only on %v", got, own)
		}
	}
	t.Log("threads are bound")
}

func TestNUMANode(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	sys := fstest.MapFS{
		"bus/pci/devices/0000:0f:00.0/numa_node":  file("3\n"),
		"bus/pci/devices/0000:10:00.0/numa_node":  file("-1\n"),
		"bus/pci/devices/10000:10:00.0/numa_node": file("1\n"),
		"bus/pci/devices/0000:11:00.0/numa_node":  file("?\n"),
	}
	for id, want := range map[string]int{
		"00000000:0F:00.0": 3, "0000:0f:00.0": 3, "00000000:10:00.0": -1, "00010000:10:00.0": 1, "00000000:11:00.0": -1,
		"00000000:12:00.0": -1, "": -1, "nothing": -1, "x:y": -1,
	} {
		if got := NUMANode(sys, id); got != want {
			t.Errorf("%q: %d, want %d", id, got, want)
		}
	}
}

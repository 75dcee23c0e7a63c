package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrCannot is wrapped by errors of [New] on a machine that lacks what it takes.
var ErrCannot = errors.New("no network of namespaces can be made here")

// Options say which network to make.
type Options struct {
	// Leaves is the number of machines, 1 to 200.
	Leaves int
	// Long makes all links cables that can have a delay and lose packets; see [Lab.Delay]. It costs processor time.
	Long bool
}

// Lab is a network. Its methods may be called from several goroutines, but those about one leaf by one at a time.
type Lab struct {
	prefix string
	bridge *netns
	leaves []*netns
	cables []*cable // by leaf; of a network of long ones
}

// made counts the networks of this process.
var made atomic.Int64

// adding is held while a namespace is added: the first of a machine makes the folder of all.
var adding sync.Mutex

// prefix is what names of namespaces begin with; the number of a process follows.
const prefix = "netlab"

// New makes a network. The caller closes it.
func New(o Options) (*Lab, error) {
	if o.Leaves < 1 || o.Leaves > 200 {
		return nil, fmt.Errorf("netlab: Leaves is %d, want 1 to 200", o.Leaves)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("netlab: %w: it takes root", ErrCannot)
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("netlab: %w: the command %s is missing (package iproute2)", ErrCannot, tool)
		}
	}
	n := made.Add(1)
	if n == 1 {
		sweep()
	}
	l := &Lab{prefix: fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), n)}
	if err := l.build(o); err != nil {
		return nil, errors.Join(fmt.Errorf("netlab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(o Options) error {
	// What a machine may lack is tried with the plainest of commands, so that no mistake here passes for that.
	cannot := func(err error) error {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrCannot, err)
		}
		return err
	}
	add := func(name string) (*netns, error) {
		adding.Lock()
		defer adding.Unlock()
		if err := ip("netns", "add", name); err != nil {
			return nil, cannot(err)
		}
		return openNetns(name)
	}
	var err error
	if l.bridge, err = add(l.prefix + "-br"); err != nil {
		return err
	}
	if err := ip("-n", l.bridge.name, "link", "add", "name", "bridge0", "type", "bridge"); err != nil {
		return cannot(err)
	}
	// A port works as soon as it is up.
	if err := ip("-n", l.bridge.name, "link", "set", "bridge0", "up", "type", "bridge", "forward_delay", "0"); err != nil {
		return err
	}
	for i := range o.Leaves {
		leaf, err := add(fmt.Sprintf("%s-%d", l.prefix, i))
		if err != nil {
			return err
		}
		l.leaves = append(l.leaves, leaf)
		if o.Long {
			c, err := newCable(leaf, inner, l.bridge, port(i))
			if err != nil {
				return cannot(err)
			}
			l.cables = append(l.cables, c)
		} else if err := ip("-n", l.bridge.name, "link", "add", port(i), "type", "veth", "peer", "name", inner, "netns", leaf.name); err != nil {
			return cannot(err)
		}
		for _, args := range [][]string{
			{"-n", l.bridge.name, "link", "set", port(i), "master", "bridge0", "up"},
			{"-n", leaf.name, "link", "set", "lo", "up"},
			{"-n", leaf.name, "link", "set", inner, "address", hardware(i), "up"},
			{"-n", leaf.name, "addr", "add", l.Addr(i) + "/24", "dev", inner},
		} {
			if err := ip(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// inner is the interface of a leaf.
const inner = "eth0"

// port is the interface of the bridge that leads to a leaf.
func port(leaf int) string { return fmt.Sprintf("port%d", leaf) }

// hardware is the hardware address of a leaf.
func hardware(leaf int) string { return fmt.Sprintf("02:00:00:00:00:%02x", leaf+1) }

// Size returns the number of leaves.
func (l *Lab) Size() int { return len(l.leaves) }

// Addr returns the address of a leaf, without a port.
func (l *Lab) Addr(leaf int) string { return fmt.Sprintf("10.77.0.%d", leaf+1) }

// Start starts a command on a leaf. It shares files and all else with this process.
func (l *Lab) Start(leaf int, cmd *exec.Cmd) error { return l.leaves[leaf].do(cmd.Start) }

// Dial connects with an address of package net, as a program on a leaf would.
func (l *Lab) Dial(ctx context.Context, leaf int, addr string) (c net.Conn, err error) {
	err = l.leaves[leaf].do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp4", addr)
		return err
	})
	return c, err
}

// Sent returns how many bytes a leaf has sent over its link, frames and all.
func (l *Lab) Sent(leaf int) (int64, error) {
	n, _, err := l.bridge.counters(port(leaf))
	return n, err
}

// Received returns how many bytes were sent to a leaf over its link.
func (l *Lab) Received(leaf int) (int64, error) {
	_, n, err := l.bridge.counters(port(leaf))
	return n, err
}

// Listening returns the ports at which programs of a leaf listen for TCP connections over IPv4.
func (l *Lab) Listening(leaf int) (ports []int, err error) {
	var table []byte
	err = l.leaves[leaf].do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	})
	for line := range strings.Lines(string(table)) {
		const listens = "0A"
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != listens {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil {
			ports = append(ports, int(p))
		}
	}
	return ports, err
}

// Cut takes the link of a leaf down, at the bridge: the leaf keeps its addresses and hears nothing.
func (l *Lab) Cut(leaf int) error { return ip("-n", l.bridge.name, "link", "set", port(leaf), "down") }

// Mend takes it up again.
func (l *Lab) Mend(leaf int) error { return ip("-n", l.bridge.name, "link", "set", port(leaf), "up") }

// Part has two leaves send what they send each other to nobody. Both reach all others.
func (l *Lab) Part(a, b int) error {
	const nobody = "02:00:00:00:00:ff"
	one := func(from, to int) error {
		return ip("-n", l.leaves[from].name, "neigh", "replace", l.Addr(to), "lladdr", nobody, "dev", inner, "nud", "permanent")
	}
	return errors.Join(one(a, b), one(b, a))
}

// Join ends that.
func (l *Lab) Join(a, b int) error {
	one := func(from, to int) error {
		return ip("-n", l.leaves[from].name, "neigh", "del", l.Addr(to), "dev", inner)
	}
	return errors.Join(one(a, b), one(b, a))
}

// Rate limits the link of a leaf, in each direction, to so many bits per second; 0 lifts the limit. What waits for more than a fifth of a
// second is dropped.
func (l *Lab) Rate(leaf int, bits int64) error {
	for _, at := range []struct{ ns, dev string }{{l.leaves[leaf].name, inner}, {l.bridge.name, port(leaf)}} {
		args := []string{"-n", at.ns, "qdisc", "replace", "dev", at.dev, "root", "tbf", "rate", fmt.Sprint(bits), "burst", "64kb", "latency", "200ms"}
		if bits == 0 {
			args = []string{"-n", at.ns, "qdisc", "del", "dev", at.dev, "root"}
		}
		if err := command("tc", args...); err != nil {
			return err
		}
	}
	return nil
}

// Delay has everything that a leaf sends and receives arrive later, on its way to the bridge and on its way back, by d each. It is for
// networks of long cables.
func (l *Lab) Delay(leaf int, d time.Duration) { l.cables[leaf].delay.Store(int64(d)) }

// Lose has the link of a leaf lose so many of a million packets, in each direction. It is for networks of long cables.
func (l *Lab) Lose(leaf int, perMillion int) { l.cables[leaf].loss.Store(int64(perMillion)) }

// Lost returns how many packets the link of a leaf has lost so.
func (l *Lab) Lost(leaf int) int64 { return l.cables[leaf].lost.Load() }

// Close removes the network. Processes in it go on, without one.
func (l *Lab) Close() error {
	var errs []error
	for _, c := range l.cables {
		errs = append(errs, c.close())
	}
	for _, n := range append(l.leaves, l.bridge) {
		if n != nil {
			errs = append(errs, ip("netns", "del", n.name), n.close())
		}
	}
	l.cables, l.leaves, l.bridge = nil, nil, nil
	return errors.Join(errs...)
}

// sweep removes networks of processes that are gone. What cannot be removed does no harm.
func sweep() {
	names, _ := filepath.Glob(filepath.Join(folder, prefix+"-*"))
	for _, name := range names {
		f := strings.Split(filepath.Base(name), "-")
		if pid, err := strconv.Atoi(f[1]); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = ip("netns", "del", filepath.Base(name))
		}
	}
}

func ip(args ...string) error { return command("ip", args...) }

// command runs a command that says nothing unless it fails.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

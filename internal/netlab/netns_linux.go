package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// netns is a network namespace that has a name for ip.
type netns struct {
	name string
	file *os.File
	dev  *os.File // its table of interfaces
}

// folder is where ip keeps namespaces.
const folder = "/run/netns"

// openNetns opens one that ip has made.
func openNetns(name string) (*netns, error) {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	n := &netns{name: name, file: f}
	// What is opened in a namespace stays of it.
	err = n.do(func() (err error) {
		n.dev, err = os.Open("/proc/thread-self/net/dev")
		return err
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return n, nil
}

// do calls f on a thread that is in the namespace. What f starts or opens is there, too; goroutines that it starts are not.
func (n *netns) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("netlab: entering %s: %w", n.name, err)
			return
		}
		err = f()
		// A thread that does not get back ends with this goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func (n *netns) close() error { return errors.Join(n.dev.Close(), n.file.Close()) }

// counters returns the bytes that an interface has received and sent.
func (n *netns) counters(dev string) (received, sent int64, err error) {
	b := make([]byte, 16<<10)
	k, err := n.dev.ReadAt(b, 0)
	if k == 0 && err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b[:k])) {
		name, rest, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != dev {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < 9 {
			break
		}
		received, err = strconv.ParseInt(f[0], 10, 64)
		if err == nil {
			sent, err = strconv.ParseInt(f[8], 10, 64)
		}
		return received, sent, err
	}
	return 0, 0, fmt.Errorf("netlab: %s has no interface %s", n.name, dev)
}

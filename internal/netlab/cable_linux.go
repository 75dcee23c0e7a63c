package netlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cable carries Ethernet frames between two TAP devices in different namespaces: later, and not all of them.
type cable struct {
	ends  [2]*os.File
	delay atomic.Int64 // nanoseconds, in each direction
	loss  atomic.Int64 // of a million frames
	lost  atomic.Int64
	all   sync.WaitGroup
}

// newCable makes the devices and joins them.
func newCable(a *netns, nameA string, b *netns, nameB string) (*cable, error) {
	c := &cable{}
	var err error
	if c.ends[0], err = openTap(a, nameA); err != nil {
		return nil, err
	}
	if c.ends[1], err = openTap(b, nameB); err != nil {
		return nil, errors.Join(err, c.ends[0].Close())
	}
	c.carry(c.ends[0], c.ends[1])
	c.carry(c.ends[1], c.ends[0])
	return c, nil
}

// openTap makes a TAP device, which lives as long as the file.
func openTap(n *netns, name string) (f *os.File, err error) {
	err = n.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		r, err := unix.NewIfreq(name)
		if err == nil {
			r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("making the TAP device %s: %w", name, err), unix.Close(fd))
		}
		f = os.NewFile(uintptr(fd), name) // only now, as a file without a device cannot be waited for
		return nil
	})
	return f, err
}

// frame is one that is on its way.
type frame struct {
	due  time.Time
	data []byte
}

// underway is how many frames a cable has room for, in each direction; a delay of a second at 6,000 full frames a second.
const underway = 6 << 10

// carry carries frames in one direction until the cable is closed.
func (c *cable) carry(from, to *os.File) {
	way := make(chan frame, underway)
	c.all.Go(func() {
		defer close(way)
		for {
			b := make([]byte, 2<<10) // above any frame of an interface with the usual MTU
			n, err := from.Read(b)
			switch {
			case errors.Is(err, os.ErrClosed):
				return
			case err != nil:
				// The device is down: there is nothing to be read until it is up, which the system does not tell.
				c.pause(10 * time.Millisecond)
				continue
			}
			if rand.Int64N(1_000_000) < c.loss.Load() {
				c.lost.Add(1)
				continue
			}
			select {
			case way <- frame{time.Now().Add(time.Duration(c.delay.Load())), b[:n]}:
			default: // no room, as in any switch
				c.lost.Add(1)
			}
		}
	})
	c.all.Go(func() {
		for f := range way {
			if wait := time.Until(f.due); wait > 0 {
				c.pause(wait)
			}
			_, _ = to.Write(f.data) // what the other end does not take is lost, as on any cable
		}
	})
}

func (c *cable) pause(d time.Duration) { <-time.After(d) }

// close ends the devices.
func (c *cable) close() error {
	err := errors.Join(c.ends[0].Close(), c.ends[1].Close())
	c.all.Wait()
	return err
}

package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
)

// meetOver opens a port of each fabric and connects them as the ranks of a round.
func meetOver(t *testing.T, fabrics ...executor.Fabric) []error {
	t.Helper()
	var ports []executor.Port
	var addrs []string
	for _, f := range fabrics {
		p, err := f.Open("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		ports, addrs = append(ports, p), append(addrs, p.Addr())
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	errs := make([]error, len(ports))
	var wg sync.WaitGroup
	for r, p := range ports {
		wg.Go(func() {
			tr, err := p.Connect(ctx, executor.Meeting{
				Job: "test", Rank: r, Addrs: addrs, Spec: "same", Secret: []byte("6fd1a3c07be2984d5b10e7f2c8963ad4"), LinkTimeout: 5 * time.Second,
			})
			if errs[r] = err; err != nil {
				stop() // nobody waits for it
				return
			}
			if tr.Rank() != r || tr.Size() != len(ports) {
				t.Errorf("rank %d of %d", tr.Rank(), tr.Size())
			}
			errs[r] = tr.Close()
		})
	}
	wg.Wait()
	return errs
}

func fabric(t *testing.T, name string) executor.Fabric {
	t.Helper()
	f, err := Fabric(name, tcp.PortRange{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Ranks with tcp and with auto meet over TCP; the record says so.
func TestFabricsAgree(t *testing.T) {
	a, b := fabric(t, TransportAuto), fabric(t, TransportTCP)
	if err := errors.Join(meetOver(t, a, b, a)...); err != nil {
		t.Fatal(err)
	}
	if a.Name() != TransportTCP || b.Name() != TransportTCP {
		t.Error(a.Name(), b.Name())
	}
}

func TestFabricNames(t *testing.T) {
	for name, text := range map[string]string{"inproc": "no memory in common", "carrier pigeon": "must be auto, inproc, tcp, ucx"} {
		if _, err := Fabric(name, tcp.PortRange{}, nil); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An address of something else is refused with a line that names the rank.
func TestFabricStranger(t *testing.T) {
	p, err := fabric(t, TransportTCP).Open("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Connect(t.Context(), executor.Meeting{Addrs: []string{p.Addr(), "ucx1-of-another-kind"}})
	if !errors.Is(err, shuffle.ErrMismatch) || !strings.Contains(err.Error(), "rank 1") {
		t.Error(err)
	}
}

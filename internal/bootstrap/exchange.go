package bootstrap

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// kvs is a service of a launcher: what one rank puts all can get after the next fence. Its methods are called one at a time.
type kvs interface {
	// Size is the number of ranks.
	Size() int
	// Put says something about this rank, in a few hundred bytes.
	Put(key string, value []byte) error
	// Fence waits until all ranks have called it.
	Fence() error
	// Get returns what a rank has put before the last fence.
	Get(rank int, key string) ([]byte, error)
	// Close leaves the service: the launcher does not take the end of this process for a failure of the job any more.
	Close() error
}

// card is what a rank says about the machine it is on.
type card struct {
	// Stack is the same for processes that reach each other on loopback.
	Stack string `json:"s"`
	// Nets are the addresses of the machine with their networks, the preferred ones first.
	Nets []netip.Prefix `json:"a,omitempty"`
}

// meeting is what rank 0 says.
type meeting struct {
	Root   string `json:"r,omitempty"`
	Secret []byte `json:"k,omitempty"`
	Error  string `json:"e,omitempty"`
}

const (
	cardKey    = "dovetail-card"
	meetingKey = "dovetail-meeting"
	secretSize = 32
)

// exchange gives all ranks the address of rank 0 and a secret. First they say where they are: rank 0 listens at one address only, that
// at which the others reach it. What is wrong on rank 0 is said by all.
func exchange(kv kvs, rank int, r Request, own card) (f Found, err error) {
	if err := put(kv, cardKey, own); err != nil {
		return f, err
	}
	if err := kv.Fence(); err != nil {
		return f, err
	}
	var m meeting
	if rank == 0 {
		f, err = open(kv, r, own)
		m = meeting{Root: f.Root}
		if len(r.Secret) == 0 {
			m.Secret = f.Secret // which else all have
		}
		if err != nil {
			m.Error = err.Error()
		}
		err = errors.Join(err, put(kv, meetingKey, m))
	}
	err = errors.Join(err, kv.Fence())
	if rank != 0 && err == nil {
		if err = get(kv, 0, meetingKey, &m); err == nil && m.Error != "" {
			err = fmt.Errorf("rank 0: %s", m.Error)
		}
		f = Found{Root: m.Root, Secret: m.Secret}
		if len(r.Secret) > 0 {
			f.Secret = r.Secret
		} else if err == nil && len(f.Secret) == 0 {
			err = errors.New("rank 0 was given a secret, and this rank was not: give all ranks the same options")
		}
	}
	if err != nil && f.Listener != nil {
		_ = f.Listener.Close()
		f.Listener = nil
	}
	return f, err
}

// open opens the port of rank 0, and makes a secret.
func open(kv kvs, r Request, own card) (f Found, err error) {
	if f.Secret = r.Secret; len(f.Secret) == 0 {
		f.Secret = make([]byte, secretSize)
		_, _ = rand.Read(f.Secret) // which never fails
	}
	if r.Root != "" {
		f.Root = r.Root
		return f, nil
	}
	var others []card
	for rank := 1; rank < kv.Size(); rank++ {
		var c card
		if err := get(kv, rank, cardKey, &c); err != nil {
			return f, err
		}
		others = append(others, c)
	}
	addr, err := choose(own, others, route)
	if err != nil {
		return f, err
	}
	f.Listener, err = r.listen(addr.String(), strconv.Itoa(r.RootPort))
	if err != nil {
		return f, fmt.Errorf("it cannot listen: %w", err)
	}
	f.Root = f.Listener.Addr().String()
	return f, nil
}

func put(kv kvs, key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return kv.Put(key, data)
}

func get(kv kvs, rank int, key string, v any) error {
	data, err := kv.Get(rank, key)
	if err != nil {
		return fmt.Errorf("rank %d: %w", rank, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("rank %d has put %q as %s, which cannot be read: %w; use the same program on all ranks", rank, data, key, err)
	}
	return nil
}

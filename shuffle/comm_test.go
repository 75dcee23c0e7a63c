package shuffle

import (
	"errors"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// quiet is a transport of rank 2 of 3 on which nothing ever happens.
type quiet struct{ ready chan struct{} }

func (q *quiet) Rank() int                                { return 2 }
func (q *quiet) Size() int                                { return 3 }
func (q *quiet) Features() Features                       { return Features{} }
func (q *quiet) Alloc(mem.Tier, int) (*mem.Buffer, error) { return mem.Host().Alloc(0) }
func (q *quiet) Post([]Op) error                          { return nil }
func (q *quiet) Poll([]Event) (int, error)                { return 0, nil }
func (q *quiet) Ready() <-chan struct{}                   { return q.ready }
func (q *quiet) Close() error                             { return nil }

// Messages go to the operation of their run, op, epoch and instance. For one that is not there, greetings and
// poison of a later use are kept until it starts; everything of earlier uses and epochs is thrown away.
func TestCommunicatorRoutes(t *testing.T) {
	c := newCommunicator(&quiet{})
	key := opKey{run: 1, op: 5, epoch: 2, instance: 1}
	find := func(k opKey, kind msgKind) *Shuffler {
		return c.find(0, &prefix{opKey: k, kind: kind}, []byte("header"))
	}
	with := func(change func(k *opKey)) opKey {
		k := key
		change(&k)
		return k
	}
	s := new(Shuffler)
	if find(key, msgHello); c.held != 1 {
		t.Fatal("an early greeting was not kept")
	}
	if find(key, msgData); c.held != 1 {
		t.Fatal("early data was kept")
	}
	past, err := c.register(s, 1, 5, 2)
	if err != nil || len(past.early) != 1 || string(past.early[0].header) != "header" || s.key != key || c.held != 0 {
		t.Fatalf("%v %v %v", past, s.key, err)
	}
	if find(key, msgData) != s {
		t.Error("the operation was not found")
	}
	for name, k := range map[string]opKey{
		"an older epoch":       with(func(k *opKey) { k.epoch = 1 }),
		"an older epoch again": with(func(k *opKey) { k.epoch, k.instance = 1, 9 }),
		"instance 0":           with(func(k *opKey) { k.instance = 0 }),
	} {
		if find(k, msgHello) != nil || c.held != 0 {
			t.Errorf("%s: %d messages were kept", name, c.held)
		}
	}
	for i, k := range []opKey{
		with(func(k *opKey) { k.epoch = 3 }), with(func(k *opKey) { k.instance = 2 }),
		with(func(k *opKey) { k.run = 9 }), with(func(k *opKey) { k.op = 6 }),
	} {
		if find(k, msgPoison) != nil || c.held != i+1 {
			t.Errorf("%+v was not kept", k)
		}
	}
	c.unregister(s)
	if find(key, msgHello) != nil || c.held != 4 {
		t.Error("a message for an operation that is over was kept")
	}
	// A newer epoch makes everything of older ones stale, kept or not.
	if _, err := c.register(s, 1, 5, 4); err != nil || c.held != 2 {
		t.Errorf("%d messages are kept: %v", c.held, err)
	}
	if _, err := c.register(new(Shuffler), 1, 5, 3); err == nil {
		t.Error("an epoch that is over was started")
	}
	c.unregister(s)
	for i := range maxEarly {
		find(opKey{run: 77, op: OpID(i), instance: 1}, msgHello)
	}
	if !errors.Is(c.fatal, ErrProtocol) || c.held != maxEarly {
		t.Errorf("%d messages are kept: %v", c.held, c.fatal)
	}
}

func TestNewCommunicatorRefuses(t *testing.T) {
	if _, err := NewCommunicator(nil); err == nil {
		t.Error("no transport was taken")
	}
	c, err := NewCommunicator(&quiet{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := New(Options{Comm: c, TotalParts: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("an operation on a closed communicator: %v", err)
	}
}

// A message that cannot be read may have been the greeting for an operation that this rank starts later. That
// must not wait for it.
func TestCommunicatorRemembersDamage(t *testing.T) {
	c := newCommunicator(&quiet{})
	hello := goldenMessages()["hello"]
	hello[60] ^= 1
	c.message(&Event{Kind: EventMessage, Peer: 1, Header: hello})
	s, err := New(Options{Comm: c, TotalParts: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	select {
	case <-s.Done():
	default:
		t.Fatal("the operation goes on")
	}
	if err := s.Err(); !errors.Is(err, ErrCorrupt) || !errors.Is(err, ErrAborted) {
		t.Error(err)
	}
	if box := c.boxes[0]; len(box.control) != 2 || box.control[1].kind != msgPoison {
		t.Error("the other ranks are not told")
	}
}

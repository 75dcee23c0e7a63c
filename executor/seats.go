package executor

import (
	"fmt"
	"sync"
)

// seats says which devices the actors of a running stage own. A stage has its own: stages that run at the same time share the
// devices, as they share the CPU slots. It is safe for concurrent use.
type seats struct {
	devs *devices

	mu    sync.Mutex
	on    []*Device // that worked when the stage started
	room  []int     // actors that each has room for
	taken []int     // actors that each has
}

// newSeats returns those of a stage, or nil if its actors own no devices.
func (r *stageRun) newSeats() *seats {
	need := r.stage.Resources()
	if !need.device() {
		return nil
	}
	on := r.e.devices.working()
	return &seats{
		devs: r.e.devices, on: on, room: deviceRoom(need, memories(on), r.e.devices.reserved), taken: make([]int, len(on)),
	}
}

// take returns the device with the fewest actors among those that work and have room for one more, or nil.
func (s *seats) take() *Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := -1
	for i, dev := range s.on {
		if s.taken[i] < s.room[i] && (best < 0 || s.taken[i] < s.taken[best]) && s.devs.why(dev) == nil {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	s.taken[best]++
	return s.on[best]
}

// seat gives all actors of a stage that starts a device, if they need one.
func (c *crew[A]) seat(envs []*Env) error {
	if c.seats = c.r.newSeats(); c.seats == nil {
		return nil
	}
	for i, env := range envs {
		if env.Device = c.seats.take(); env.Device == nil {
			return fmt.Errorf("executor: %w: stage %q needs %d actors with a device each, and there is room for %d",
				ErrNoResources, c.r.name, len(envs), i)
		}
	}
	return nil
}

// successor returns the environment of the actor that takes the place of one that died: on another device, if that of the old
// one is lost. It returns nil if there is none with room; the stage goes on without that actor, or fails if it needs it.
func (c *crew[A]) successor(s *shift) *Env {
	env := s.env
	if env.Device == nil {
		return env
	}
	// It may have died without a word.
	if err := c.r.blame(env, fmt.Errorf("its actor died")); !c.r.gone(env) {
		return env
	} else if c.sc.failed() {
		return nil
	} else if dev := c.seats.take(); dev != nil {
		next := *env
		next.Device = dev
		return &next
	} else if c.last(s) {
		c.sc.fail(fmt.Errorf("executor: stage %q: no other device has room for an actor of rank %d: %w", c.r.name, env.Rank, err))
		return nil
	}
	c.r.note(fmt.Sprintf("stage %q goes on with one actor less: no other device has room for it", c.r.name))
	return nil
}

// last takes an actor off the list and reports whether no other is left that could do its work.
func (c *crew[A]) last(s *shift) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members[s.env.Actor] == s {
		delete(c.members, s.env.Actor)
	}
	for _, o := range c.members {
		if !c.perRank || o.env.Rank == s.env.Rank {
			return false
		}
	}
	return true
}

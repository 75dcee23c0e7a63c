package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

// crew is the actors of a running stage, or of a round of it, each in a goroutine of its own. One that dies is replaced.
type crew[A io.Closer] struct {
	r     *stageRun
	sc    *scope
	call  string // that sets up an actor
	setup func(context.Context, *Env) (A, error)
	// body has an actor work until nothing is left for it. It returns false if the actor is not fit to go on.
	body func(*Env, A) (fit bool)

	// perRank says that an actor of one rank cannot do the work of another's.
	perRank bool
	seats   *seats // nil if actors own no devices

	mu      sync.Mutex
	ended   sync.Cond
	working int            // goroutines that are not given up
	lost    int            // goroutines that were given up and have not ended
	members map[int]*shift // by actor: the goroutine that is the actor now
}

// shift is one goroutine of a crew.
type shift struct {
	env     *Env
	givenUp bool
}

// lastGrace is how long the end of a stage waits for actors that were given up.
const lastGrace = 2 * time.Second

// run sets up one actor per env, has ready called once all are set up, and only if no set-up failed, and closes every
// actor that was set up, in every outcome. It returns when all goroutines have ended, but for those that were given up and do
// not. Failures are told to the scope.
func (c *crew[A]) run(envs []*Env, ready func()) {
	c.ended.L = &c.mu
	c.members = make(map[int]*shift)
	if err := c.seat(envs); err != nil {
		c.sc.fail(err)
		return
	}
	var setups sync.WaitGroup
	gate := make(chan struct{})
	setups.Add(len(envs))
	for _, env := range envs {
		c.start(env, func() { setups.Done(); <-gate })
	}
	setups.Wait()
	close(gate)
	if !c.sc.failed() {
		// In a goroutine of its own: a source of tasks that ends its goroutine must not end the wait below.
		var fed sync.WaitGroup
		fed.Go(ready)
		fed.Wait()
	}
	c.wait()
}

// start begins a goroutine that is an actor. isUp is called when it is set up, or cannot be.
func (c *crew[A]) start(env *Env, isUp func()) {
	s := &shift{env: env}
	c.mu.Lock()
	c.working++
	c.members[env.Actor] = s
	c.mu.Unlock()
	go func() {
		if env.Device != nil {
			// What drivers know of a thread is this actor's, and ends with it: it is never unlocked.
			runtime.LockOSThread()
		}
		fit := true
		// Deferred, because a stage may end its goroutine by runtime.Goexit.
		defer func() { c.end(s, fit) }()
		a, ok := setUp(c.r, c.sc, c.call, env, isUp, c.setup)
		if !ok {
			fit = !c.r.gone(env)
			return
		}
		c.r.living.Add(1)
		defer c.r.living.Add(-1)
		defer tearDown(c.r, env, a)
		if !c.sc.failed() {
			fit = false
			fit = c.body(env, a)
		}
	}()
}

// end is the last thing a goroutine does. A place that became vacant is filled again while there is work.
func (c *crew[A]) end(s *shift, fit bool) {
	c.mu.Lock()
	refill := !fit && !s.givenUp && !c.sc.failed()
	if s.givenUp {
		c.lost--
	} else if !refill {
		c.working--
	}
	c.ended.Broadcast()
	c.mu.Unlock()
	if refill {
		c.replace(s)
	}
}

// giveUp fills the place of an actor whose goroutine does not answer any more.
func (c *crew[A]) giveUp(actor int) {
	c.mu.Lock()
	s := c.members[actor]
	if s == nil || s.givenUp {
		c.mu.Unlock()
		return
	}
	s.givenUp = true
	c.lost++
	c.mu.Unlock()
	c.replace(s)
}

// replace starts the successor of an actor, which is not counted as working any more.
func (c *crew[A]) replace(s *shift) {
	if env := c.successor(s); env != nil {
		c.r.replaced.Add(1)
		c.start(env, func() {})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working-- // now that the successor is counted
	c.ended.Broadcast()
}

// wait returns when all goroutines have ended. Those that were given up get a last moment.
func (c *crew[A]) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.working > 0 {
		c.ended.Wait()
	}
	if c.lost == 0 {
		return
	}
	late := false
	t := time.AfterFunc(lastGrace, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.ended.Broadcast()
	})
	defer t.Stop()
	for c.lost > 0 && !late {
		c.ended.Wait()
	}
	if c.lost > 0 {
		c.r.note(fmt.Sprintf("%d actors of stage %q do not end although they were told to; they are left behind", c.lost, c.r.name))
	}
}

func setUp[A io.Closer](r *stageRun, sc *scope, call string, env *Env, isUp func(), setup func(context.Context, *Env) (A, error)) (a A, ok bool) {
	defer isUp()
	defer func(start time.Time) { r.setupNS.Add(int64(time.Since(start))) }(time.Now())
	err := guard(r.name, "", call, sc.fail, func() (err error) {
		a, err = setup(sc.ctx, env)
		if err == nil && any(a) == nil {
			err = fmt.Errorf("%s returned no actor", call)
		}
		return err
	})
	if err != nil {
		err = r.blame(env, err)
		if errors.Is(err, ErrDeviceLost) && r.kind != kindCollective {
			return a, false // another is set up elsewhere; but in a collective the others may wait for this one
		}
		if !errors.Is(err, ErrPanic) {
			err = fmt.Errorf("executor: setting up actor %d of %d of stage %q: %w", env.Actor+1, env.Actors, r.name, err)
		}
		sc.fail(err)
		return a, false
	}
	return a, true
}

func tearDown[A io.Closer](r *stageRun, env *Env, a A) {
	note := func(err error) {
		if r.gone(env) {
			r.note(err.Error()) // as was to be expected
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.teardowns = append(r.teardowns, err)
	}
	if err := guard(r.name, "", "Close", note, a.Close); err != nil {
		if !errors.Is(err, ErrPanic) {
			err = fmt.Errorf("executor: closing actor %d of %d of stage %q: %w", env.Actor+1, env.Actors, r.name, err)
		}
		note(err)
	}
}

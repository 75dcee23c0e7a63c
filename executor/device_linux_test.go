package executor

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// All calls to an actor that owns a device come from one thread, which is no one else's and ends with the actor.
func TestDeviceThread(t *testing.T) {
	e := newExecutor(t, Config{Devices: someDevices(3)})
	var mu sync.Mutex
	threads := make(map[int]int) // by actor
	see := func(env *Env) {
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		id := syscall.Gettid()
		if was, ok := threads[env.Actor]; ok && was != id {
			t.Errorf("actor %d is on thread %d and was on %d", env.Actor, id, was)
		}
		threads[env.Actor] = id
	}
	st := &owning{stage: stage{
		res: Resources{GPUs: 1}, setup: func(env *Env) error { see(env); return nil }, close: func(env *Env) error { see(env); return nil },
	}, process: func(env *Env, _ Task, _ *Attempt) error {
		for range 3 {
			see(env)
			time.Sleep(100 * time.Microsecond)
		}
		return nil
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(60)); err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for actor, id := range threads {
		if seen[id] {
			t.Errorf("actor %d shares thread %d", actor, id)
		}
		seen[id] = true
		if id == os.Getpid() {
			continue // the process's first thread only goes idle
		}
		path := fmt.Sprintf("/proc/self/task/%d", id)
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(path); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("thread %d of actor %d has not ended", id, actor)
				break
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d threads", len(seen))
	}
}

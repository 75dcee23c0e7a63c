package executor

import (
	"fmt"
	"slices"
	"testing"
)

// story is an actor on another rank that writes down what it is told.
type story struct {
	name string
	told *[]string
}

func (s story) give(g *grant)  { *s.told = append(*s.told, s.name+" is given "+g.items[0].task.ID) }
func (s story) tooLong(*grant) { *s.told = append(*s.told, s.name+" is late") }
func (s story) giveUp()        { *s.told = append(*s.told, s.name+" is given up") }

// What a stuck actor has done is taken back before its task is another's: once that one is done, all are, and its rank must have nothing
// open then.
func TestGivenUpBeforeTheTaskIsAnothers(t *testing.T) {
	for _, far := range []bool{true, false} {
		e := newExecutor(t, Config{})
		r := e.newRun(t.Context(), &stage{}, "pool")
		d := r.dispatcher(r.scope, 1, nil)
		var told []string
		d.back = func(actor int) { told = append(told, fmt.Sprintf("%d is taken back", actor)) }
		a, b := &Env{Actor: 0}, &Env{Actor: 1}
		if far {
			d.ready(a, story{"0", &told})
		} else {
			d.mu.Lock()
			d.sit(a, nil)
			d.mu.Unlock()
		}
		d.add(item{task: Task{ID: "t"}})
		d.ready(b, story{"1", &told})
		d.mu.Lock()
		g := d.actors[0].now
		d.mu.Unlock()
		if !d.renounce(0, g, errTooLong) || d.renounce(0, g, errTooLong) {
			t.Error("it is given up twice, or never")
		}
		want := []string{"0 is taken back", "1 is given t"}
		if far {
			want = []string{"0 is given t", "0 is given up", "1 is given t"}
		}
		if !slices.Equal(told, want) {
			t.Errorf("%q, want %q", told, want)
		}
		d.stop()
	}
}

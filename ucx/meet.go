//go:build ucx && cgo

package ucx

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// gathered notes that all ranks are there, or why they will not be.
func (t *Transport) gathered(err error) {
	if !t.meeting {
		return
	}
	t.meeting = false
	t.hub.Lock()
	t.meetErr = err
	t.hub.Unlock()
	if err != nil {
		// Those that are left are told nothing: they see the link end.
		for _, p := range t.peers {
			if p != nil {
				p.fail(err)
			}
		}
	}
	close(t.met)
}

var errAbsent = errors.New("not all ranks are there")

// meet waits until all ranks are there.
func (t *Transport) meet(ctx context.Context) error {
	select {
	case <-t.met:
	case <-ctx.Done():
		t.leave.Store(true)
		t.look()
		<-t.met
	}
	if t.meetErr == nil {
		return nil
	}
	<-t.done
	if errors.Is(t.meetErr, errAbsent) {
		return fmt.Errorf("ucx: rank %d of %d misses %s: %w", t.Rank(), t.Size(), t.absent, context.Cause(ctx))
	}
	return t.meetErr
}

// misses says which ranks have not said hello.
func (t *Transport) misses() string {
	var names []string
	for r, p := range t.peers {
		if p != nil && p.state == stateMeeting {
			names = append(names, fmt.Sprint(r))
		}
	}
	text := "ranks " + strings.Join(names, ", ")
	if len(names) == 1 {
		text = "rank " + names[0]
	}
	if t.strange > 0 {
		text += fmt.Sprintf("; %d messages came from others than the ranks of this job, or from ranks with another secret", t.strange)
	}
	return text
}

package executor

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// link is the connection to another rank.
type link struct {
	j       *Job
	rank    int
	host    string
	workers int
	process uint64 // number of the process of an actor
	conn    *control.Conn

	words string        // with which it leaves
	deaf  chan struct{} // closed when nothing more is received

	mu    sync.Mutex
	more  sync.Cond
	queue []*control.Message // received and not yet handled
	ended error              // no more are received
	why   error              // this process has ended the connection because of it
	gone  bool
}

func newLink(j *Job, conn *control.Conn, rank int, host string, workers int) *link {
	l := &link{j: j, conn: conn, rank: rank, host: host, workers: workers, deaf: make(chan struct{})}
	l.more.L = &l.mu
	return l
}

// start receives and handles messages. Handling may wait for a disk; receiving must not, or a rank would look dead.
func (l *link) start() {
	l.j.all.Add(2)
	go func() {
		defer l.j.all.Done()
		for {
			m, err := l.conn.Receive()
			if err == nil && m.Kind == kindReply {
				// At once: what is handled in between may wait for one who waits for this.
				l.j.answer(m.Call, m)
				continue
			}
			l.mu.Lock()
			if err != nil {
				l.ended = err
				// At once: what is handled now may wait for one who waits for a reply.
				close(l.deaf)
			} else {
				l.queue = append(l.queue, m)
			}
			l.more.Signal()
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer l.j.all.Done()
		for {
			l.mu.Lock()
			for len(l.queue) == 0 && l.ended == nil {
				l.more.Wait()
			}
			queue, ended := l.queue, l.ended
			l.queue = nil
			l.mu.Unlock()
			for _, m := range queue {
				l.j.handle(l, m)
			}
			if len(queue) == 0 && ended != nil {
				l.j.lose(l, ended)
				return
			}
		}
	}()
}

// send sends a message. If it cannot be sent, the receiver will say why the link is gone.
func (l *link) send(m *control.Message) {
	if err := l.conn.Send(m); err != nil && m.Call != 0 {
		l.j.answer(m.Call, nil)
	}
}

// reply answers a request with a copy of m.
func (l *link) reply(to, m *control.Message) {
	c := *m
	c.Kind, c.Call = kindReply, to.Call
	l.send(&c)
}

func (l *link) isGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// name is how people call the rank.
func (l *link) name() string {
	if l.j.children != nil {
		return fmt.Sprintf("the process of actor %d", l.rank)
	}
	return fmt.Sprintf("rank %d on %s", l.rank, l.host)
}

// failure is an error that happened on the rank.
func (l *link) failure(text string) *RemoteError {
	return &RemoteError{Rank: l.rank, Host: l.host, Text: text, here: l.j.children != nil}
}

// answer hands a reply to whoever asked.
func (j *Job) answer(call uint64, m *control.Message) {
	j.mu.Lock()
	ch := j.calls[call]
	delete(j.calls, call)
	j.mu.Unlock()
	if ch != nil && m != nil {
		ch <- m
	}
}

// handle does what a message says.
func (j *Job) handle(l *link, m *control.Message) {
	switch m.Kind {
	case kindEnd:
		if m.Text != "" {
			j.down(&RemoteError{Rank: 0, Text: m.Text})
		}
		j.drop(l)
	case kindLeave:
		if m.Text != "" {
			l.words = m.Text
			// Or it leaves because the job ends, or repeats what it was told here.
			if j.ctx.Err() == nil && j.children == nil && !strings.HasPrefix(m.Text, "rank 0: ") {
				j.note("%s leaves: %s", l.name(), m.Text)
			}
			return // and is lost when the connection closes
		}
		j.drop(l)
	case kindShare:
		j.mu.Lock()
		v := j.shared[m.Text]
		if v == nil {
			j.asked[m.Text] = append(j.asked[m.Text], ask{l, m})
			j.leaves.Broadcast()
		}
		j.mu.Unlock()
		if v != nil {
			l.reply(m, v)
		}
	case kindLookup, kindRevoke, kindIntend:
		j.mu.Lock()
		w := j.work
		j.mu.Unlock()
		l.reply(m, w.serve(m))
	case kindEnter:
		j.enter(l, m)
	default:
		j.mu.Lock()
		a := j.stages[m.Stage]
		j.mu.Unlock()
		if a == nil || !a.call(func() { a.h.handle(l, m) }) {
			if m.Call != 0 {
				l.reply(m, &control.Message{Flags: flagFailed, Text: "the stage is over"})
			}
		}
	}
}

// call calls f unless the stage is detached.
func (a *attached) call(f func()) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.gone {
		return false
	}
	f()
	return true
}

// enter lets a rank into a stage: now, when the root has come to it, or, if it is over, not at all.
func (j *Job) enter(l *link, m *control.Message) {
	j.mu.Lock()
	over, a := j.over[m.Stage], j.stages[m.Stage]
	if over == nil && a == nil {
		j.entered[m.Stage] = append(j.entered[m.Stage], ask{l, m})
	}
	j.mu.Unlock()
	switch {
	case over != nil:
		l.send(over)
	case a != nil:
		if !a.call(func() { a.h.enter(l, m) }) {
			// It is about to be over.
			j.mu.Lock()
			if over = j.over[m.Stage]; over == nil {
				j.entered[m.Stage] = append(j.entered[m.Stage], ask{l, m})
			}
			j.mu.Unlock()
			if over != nil {
				l.send(over)
			}
		}
	}
}

// tellOver tells all ranks that a stage is over, and those that come to it from now on late.
func (j *Job) tellOver(stage string, m, late *control.Message) {
	j.mu.Lock()
	j.over[stage] = late
	links := j.list()
	delete(j.entered, stage)
	j.mu.Unlock()
	for _, l := range links {
		l.send(m)
	}
}

// drop takes a rank out that is done. That its connection closes is no loss.
func (j *Job) drop(l *link) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	if j.links[l.rank] == l && j.cfg.Rank == 0 {
		delete(j.links, l.rank)
		j.leaves.Broadcast()
	}
}

// lose is called once when the link to a rank has ended.
func (j *Job) lose(l *link, why error) {
	l.conn.Break()
	j.mu.Lock()
	l.mu.Lock()
	known := l.gone || j.closed
	l.gone = true
	evicted := l.why
	l.mu.Unlock()
	if j.links[l.rank] == l {
		delete(j.links, l.rank)
		// Another may come in its place, but the stages hear of them in their order.
		j.leaving[l.rank] = !known
		j.leaves.Broadcast()
	}
	j.mu.Unlock()
	if known {
		if j.cfg.Rank != 0 {
			j.cancel(errJobClosed)
		}
		return
	}
	text, silent := "its connection broke: "+why.Error(), false
	if errors.Is(why, io.EOF) {
		text = "its connection was closed: it was killed, or it stopped"
	} else if errors.Is(why, control.ErrSilent) {
		text, silent = "it was "+why.Error(), true
	}
	if j.children != nil {
		text = j.children.lost(l, text, silent)
	}
	if evicted != nil {
		text = evicted.Error()
	}
	err := fmt.Errorf("executor: %w: %s: %s", ErrRankLost, l.name(), text)
	if silent && evicted == nil && j.children == nil {
		err = unheard{err}
	}
	if j.cfg.Rank != 0 {
		j.down(fmt.Errorf("%w; run the job again to go on from what was finished", err))
		return
	}
	j.mu.Lock()
	j.lost = append(j.lost, LostRank{l.rank, l.host, text})
	stages := make([]*attached, 0, len(j.stages))
	for _, a := range j.stages {
		stages = append(stages, a)
	}
	for stage, list := range j.entered {
		j.entered[stage] = slices.DeleteFunc(list, func(a ask) bool { return a.l == l })
	}
	left := len(j.links) + 1
	alone := j.needs && left == 1 && (j.children == nil || j.late)
	j.mu.Unlock()
	switch {
	case j.cfg.StopOnLoss || alone:
		err = fmt.Errorf("%w; run the job again to go on from what was finished", err)
		j.note("%s is lost: %s; the job stops", l.name(), text)
		j.down(err)
	case j.children != nil:
		j.note("%s is lost: %s; another takes its place", l.name(), text)
	default:
		j.note("%s is lost: %s; the job goes on with %d of %d ranks", l.name(), text, left, j.cfg.Size)
	}
	for _, a := range stages {
		a.call(func() { a.h.left(l, err) })
	}
	j.mu.Lock()
	delete(j.leaving, l.rank)
	j.mu.Unlock()
}

package executor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/shuffle/tcp"
)

// JobConfig says which rank of which job this process is.
type JobConfig struct {
	// Rank is this process's number, 0 <= Rank < Size. Rank 0 is the root: it hands out tasks, commits results, and decides who
	// is still there.
	Rank, Size int
	// Root is the address (host:port) where rank 0 listens and the others find it.
	Root string
	// Listener is where rank 0 listens, if it does so already; Root is not looked at then. Join takes it over.
	Listener net.Listener
	// Network makes the connections; nil means the system's TCP.
	Network tcp.Network
	// Fabric carries the data; nil means TCP over Network. All ranks have the same.
	Fabric Fabric
	// Name tells jobs apart that use one network. Ranks of another job are refused.
	Name string
	// Spec is what must be the same on all ranks, such as a hash of the options that decide the result and of the list of
	// inputs. A rank with another is refused.
	Spec string
	// Version is that of the program. A rank with another is refused, by that name.
	Version string
	// Secret is shared by the ranks of the job and nobody else: at least 16 random bytes. With it all connections use TLS 1.3;
	// without it all addresses must be loopback ones.
	Secret []byte
	// Public lets this rank listen at public addresses, and at all addresses of its machine. Without it only loopback, private and
	// link-local ones will do.
	Public bool
	// Workers is the number of CPU slots of this rank.
	Workers int
	// DataHost is the host, without a port, at which other ranks reach this one for data. Empty means the address from which it
	// reaches the root.
	DataHost string
	// Silence is how long a rank may not be heard of before it is taken to be lost. Default 10 s.
	Silence time.Duration
	// JoinTimeout is how long Join waits for the others. Default 1 minute.
	JoinTimeout time.Duration
	// StopOnLoss ends the job when a rank is lost. Otherwise those that are left do its work, as long as the root is one of them.
	StopOnLoss bool
	// Errors, if not nil, carries errors of other ranks to rank 0.
	Errors ErrorCodec
	// Note, if not nil, is given lines for people: who joined, who was lost, who was turned away.
	Note func(line string)
	// Host is the name of this rank's machine, for people and for the record; empty means what the machine calls itself.
	Host string
	// Launcher says what started the ranks, for the record.
	Launcher string
	// Find, if not nil, is called by Join before anything else and fills in Root, Listener, Secret or DataHost: for launchers through which
	// the ranks tell each other where they are. ctx ends when JoinTimeout is over.
	Find func(ctx context.Context, c *JobConfig) error
}

// ErrorCodec carries what rank 0 must find in an error of another rank with errors.As or errors.Is: without one it has the text only. All
// ranks use the same. Its methods are called from several goroutines.
type ErrorCodec interface {
	// EncodeError describes what there is to find in err, or returns nil.
	EncodeError(err error) []byte
	// DecodeError makes it again, or returns nil if data describes nothing. The text of a [RemoteError] is that of the error
	// that was encoded, whatever the text of this.
	DecodeError(data []byte) error
}

// EnsureDefaults replaces zero values by what they mean.
func (c *JobConfig) EnsureDefaults() {
	if c.Silence == 0 {
		c.Silence = 10 * time.Second
	}
	if c.JoinTimeout == 0 {
		c.JoinTimeout = time.Minute
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Network == nil {
		c.Network = tcp.System
	}
	if c.Fabric == nil {
		c.Fabric = TCPFabric(c.Network)
	}
}

// Validate reports all faults at once.
func (c *JobConfig) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("executor: job: "+format, args...))
		}
	}
	check(c.Size >= 1 && c.Size <= maxRanks, "Size is %d, want 1 to %d", c.Size, maxRanks)
	check(c.Rank >= 0 && c.Rank < max(c.Size, 1), "Rank is %d, want 0 to %d", c.Rank, c.Size-1)
	check(c.Root != "" || c.Listener != nil || c.Size == 1, "Root is empty; give the address host:port of rank 0")
	root := c.Root
	if c.Listener != nil {
		root = c.Listener.Addr().String()
	}
	if len(c.Secret) == 0 && c.Size > 1 {
		check(jobtls.Loopback(root), "%s is not a loopback address, so the ranks need a Secret: the same %d or more random bytes for each "+
			"(for instance: openssl rand -hex 32)", root, jobtls.MinSecret)
	} else if c.Size > 1 {
		err := jobtls.CheckSecret(c.Secret)
		check(err == nil, "Secret: %v", err)
	}
	check(c.Workers >= 1 && c.Workers <= maxWorkers, "Workers is %d, want 1 to %d", c.Workers, maxWorkers)
	check(c.Silence > 0, "Silence is %v, want more than 0", c.Silence)
	check(c.JoinTimeout > 0, "JoinTimeout is %v, want more than 0", c.JoinTimeout)
	return errors.Join(errs...)
}

// ErrRankLost is wrapped when a job cannot go on because a rank is gone.
var ErrRankLost = errors.New("rank is lost")

// errJobClosed ends what runs on a rank that has left its job.
var errJobClosed = fmt.Errorf("executor: the job: %w", ErrClosed)

// ErrRefused is wrapped when the root does not take a rank in.
var ErrRefused = errors.New("refused by rank 0")

// Job is this process's part in a job of several ranks, which all run the same program over the same input: every rank makes the same
// calls of [Executor.Execute] and [Executor.Shuffle], in the same order, and gets the same results. Rank 0 hands the tasks out
// to the actors of all ranks. All methods are safe for concurrent use.
type Job struct {
	cfg  JobConfig
	host string

	mu      sync.Mutex
	leaves  sync.Cond            // a link is gone, or a rank has asked for something
	links   map[int]*link        // on the root: the ranks that are there; elsewhere: 0
	stages  map[string]*attached // running here
	shared  map[string]*control.Message
	asked   map[string][]ask // of shared, before it was there
	entered map[string][]ask // stages that others have come to before the root
	over    map[string]*control.Message
	work    *Work
	calls   map[uint64]chan *control.Message
	call    uint64
	numbers map[string]int
	closed  bool
	lost    []LostRank
	where   map[int]string // hosts, by rank
	leaving map[int]bool   // ranks of which the stages have not been told yet that they are lost
	late    bool           // no rank is taken in any more
	turned  int            // callers turned away
	needs   bool           // the root has no actors of its own

	children *children // of the root of an isolated job
	parent   *handover // of the process of an actor in one
	scratch  []string  // folders to remove when no process is left

	ctx    context.Context // ends when the job cannot go on
	cancel context.CancelCauseFunc
	all    sync.WaitGroup
	accept net.Listener
	tls    *tls.Config // nil without a secret
}

// LostRank says which rank was lost and why.
type LostRank struct {
	Rank int    `json:"rank"`
	Host string `json:"host"`
	Why  string `json:"why"`
}

// ask is a request of a rank that waits for an answer.
type ask struct {
	l *link
	m *control.Message
}

// attached is a stage that messages are for. Its handler is not called any more once it is detached.
type attached struct {
	mu   sync.RWMutex
	gone bool
	h    stageHandler
}

// stageHandler is told what other ranks say about a stage, on the root by each rank in turn.
type stageHandler interface {
	// enter says that a rank has come to the stage.
	enter(l *link, m *control.Message)
	handle(l *link, m *control.Message)
	// left says that a rank is gone.
	left(l *link, why error)
}

// Kinds of messages. To the root:
const (
	kindHello       uint8 = iota + 1
	kindLeave             // this rank is done
	kindShare             // call: what was shared under the name Text
	kindLookup            // call: the committed file Text
	kindRevoke            // call: the committed file Text is damaged; Names has why
	kindIntend            // call: the temporary file Text is about to be made
	kindEnter             // the driver has come to Stage with tasks of hash Data
	kindIdle              // Actor has nothing to do
	kindDone              // attempt At of Grant is done
	kindFailed            // it is not, because of Text
	kindDied              // the actor that held Grant is gone, because of Text
	kindClaim             // call: may the inserts of Grant be committed?
	kindInserted          // they are
	kindPart              // partition N was extracted
	kindReady             // round Epoch can begin: this rank is reached at Text
	kindBroken            // round Epoch cannot go on because of Rank
	kindStopped           // round Epoch has stopped here
	kindOver              // round Epoch is over here
	kindStageFailed       // Stage cannot go on, because of Text
	kindNote              // Text is worth showing
	kindProgress          // N units and At rows more were done in Stage
	kindExtract           // call: extracting partition N has begun
)

// From the root:
const (
	kindWelcome uint8 = iota + 64
	kindRefuse
	kindReply     // to Call
	kindEnd       // of the job; Text says why, if it is not done
	kindBegin     // N actors, from number Actor on
	kindGive      // Tasks as Grant to Actor
	kindCancel    // the time of Grant is up
	kindGiveUp    // Actor, too
	kindPrepare   // get ready for round Epoch, as rank Rank of N; Data says which partitions are done
	kindConnect   // round Epoch begins; Names are the addresses
	kindAllIn     // all inserts of round Epoch are committed
	kindAbort     // stop round Epoch
	kindStageOver // Stage is done with results Tasks, or failed with Text
)

// Flags of messages.
const (
	flagYes       = 1 << iota // of replies
	flagTransient             // the error may not happen again
	flagAll                   // the whole grant failed
	flagVerified              // the file was read before
	flagFailed                // Text is an error
	flagUntried               // the actor did not try what it held
)

// Rank returns this process's number. A process without a job, a nil one, is rank 0 of 1.
func (j *Job) Rank() int {
	if j == nil {
		return 0
	}
	return j.cfg.Rank
}

// Size is the number of ranks the job began with.
func (j *Job) Size() int {
	if j == nil {
		return 1
	}
	return j.cfg.Size
}

// Root reports whether this is rank 0.
func (j *Job) Root() bool { return j.Rank() == 0 }

// Lost returns the ranks that were lost so far. Only the root knows.
func (j *Job) Lost() []LostRank {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]LostRank(nil), j.lost...)
}

// hosts returns the names of the ranks' machines, as far as they are known here.
func (j *Job) hosts() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]string, j.cfg.Size)
	for r, h := range j.where {
		list[r] = h
	}
	return list
}

// Join makes this process a rank of a job. It returns when all ranks are there, or with an error that names those that are
// not. ctx ends the waiting, not the job; the caller calls [Job.Close].
func Join(ctx context.Context, cfg JobConfig) (*Job, error) { return join(ctx, cfg, func(*Job) {}) }

// join joins a job, after begin.
func join(ctx context.Context, cfg JobConfig, begin func(*Job)) (*Job, error) {
	cfg.EnsureDefaults()
	ctx, stop := context.WithTimeoutCause(ctx, cfg.JoinTimeout, fmt.Errorf("it took longer than %v", cfg.JoinTimeout))
	defer stop()
	if cfg.Find != nil {
		if err := cfg.Find(ctx, &cfg); err != nil {
			return nil, err
		}
	}
	if err := cfg.Validate(); err != nil {
		if cfg.Listener != nil {
			err = errors.Join(err, cfg.Listener.Close())
		}
		return nil, err
	}
	j := &Job{
		cfg: cfg, links: make(map[int]*link), stages: make(map[string]*attached), shared: make(map[string]*control.Message),
		asked: make(map[string][]ask), entered: make(map[string][]ask), over: make(map[string]*control.Message),
		calls: make(map[uint64]chan *control.Message), numbers: make(map[string]int), where: make(map[int]string),
		leaving: make(map[int]bool),
	}
	j.leaves.L = &j.mu
	if j.host = cfg.Host; j.host == "" {
		j.host, _ = os.Hostname() // only for people
	}
	j.where[cfg.Rank] = j.host
	j.ctx, j.cancel = context.WithCancelCause(context.Background())
	if err := j.protect(); err != nil {
		return nil, err
	}
	begin(j)
	var err error
	if cfg.Rank == 0 {
		err = j.gather(ctx)
	} else {
		err = j.meetRoot(ctx)
	}
	if err != nil {
		j.Close(err)
		return nil, err
	}
	return j, nil
}

func (j *Job) note(format string, args ...any) {
	if j.cfg.Note != nil {
		j.cfg.Note(fmt.Sprintf(format, args...))
	}
}

// down ends what runs on this rank, because the job cannot go on.
func (j *Job) down(err error) { j.cancel(err) }

// Err returns why the job cannot go on, or nil.
func (j *Job) Err() error {
	if j == nil || j.ctx.Err() == nil {
		return nil
	}
	return context.Cause(j.ctx)
}

// number counts the uses of a name on this rank. As all ranks make the same calls, they count alike.
func (j *Job) number(name string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.numbers[name]++
	return j.numbers[name]
}

// Share gives all ranks what make returns on the root, or its error. It is not called on other ranks. All ranks make the same
// calls in the same order, as with Executor.Execute; name is for people.
func (j *Job) Share(ctx context.Context, name string, value func() ([]byte, error)) ([]byte, error) {
	if j == nil {
		return value()
	}
	key := fmt.Sprintf("%s#%d", name, j.number("share "+name))
	if j.cfg.Rank == 0 {
		data, err := value()
		m := &control.Message{Flags: flagYes, Data: data}
		if err != nil {
			m = &control.Message{Flags: flagFailed, Text: err.Error()}
		}
		j.publish(key, m)
		return data, err
	}
	m, err := j.ask(ctx, &control.Message{Kind: kindShare, Text: key})
	if err != nil {
		return nil, err
	}
	if m.Flags&flagFailed != 0 {
		return nil, &RemoteError{Rank: 0, Text: m.Text}
	}
	return m.Data, nil
}

// meetTime is how long the root waits for the others in [Job.Meet].
const meetTime = time.Minute

// Meet waits until all ranks that are there have called it, and is called by all as [Job.Share] is: what the root does after it, such
// as removing a folder, disturbs no one. It does not wait for a rank that is more than a minute behind. It belongs at the end of a job:
// after it no rank is taken in any more, and no process of an actor gets a successor.
func (j *Job) Meet(ctx context.Context, name string) error {
	if j == nil {
		return nil
	}
	key := fmt.Sprintf("meet %s#%d", name, j.number("meet "+name))
	if j.cfg.Rank != 0 {
		_, err := j.ask(ctx, &control.Message{Kind: kindShare, Text: key})
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	wake := func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.leaves.Broadcast()
	}
	defer context.AfterFunc(ctx, wake)()
	defer context.AfterFunc(j.ctx, wake)()
	j.children.settle()
	j.mu.Lock()
	j.late = true
	for ctx.Err() == nil && j.ctx.Err() == nil && j.awaited(key) {
		j.leaves.Wait()
	}
	j.mu.Unlock()
	j.publish(key, &control.Message{Flags: flagYes})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return errors.Join(context.Cause(ctx), j.Err())
}

// publish makes m the answer to all who ask for key, those who have asked already included.
func (j *Job) publish(key string, m *control.Message) {
	j.mu.Lock()
	j.shared[key] = m
	waiting := j.asked[key]
	delete(j.asked, key)
	j.mu.Unlock()
	for _, a := range waiting {
		a.l.reply(a.m, m)
	}
}

// awaited reports whether a rank has not asked for key yet. The lock is held.
func (j *Job) awaited(key string) bool {
	for _, l := range j.links {
		if !slices.ContainsFunc(j.asked[key], func(a ask) bool { return a.l == l }) {
			return true
		}
	}
	return false
}

// handlingTime is how long a rank whose root is gone waits for what it has received to be handled.
const handlingTime = time.Second

// ask sends a request to the root and waits for the reply.
func (j *Job) ask(ctx context.Context, m *control.Message) (*control.Message, error) {
	ch := make(chan *control.Message, 1)
	j.mu.Lock()
	j.call++
	m.Call = j.call
	j.calls[m.Call] = ch
	l := j.links[0]
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		delete(j.calls, m.Call)
		j.mu.Unlock()
	}()
	if l == nil {
		return nil, j.gone()
	}
	l.send(m)
	select {
	case r := <-ch:
		return r, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-j.ctx.Done():
	case <-l.deaf:
		// What the root said last may be about to be handled, and says why it went; but what is handled may wait for this.
		select {
		case <-j.ctx.Done():
		case <-time.After(handlingTime):
		}
	}
	select {
	case r := <-ch: // and then the root went
		return r, nil
	default:
	}
	if j.ctx.Err() == nil {
		return nil, fmt.Errorf("executor: %w: %s does not answer any more", ErrRankLost, l.name())
	}
	return nil, j.gone()
}

func (j *Job) gone() error {
	if err := j.Err(); err != nil {
		return err
	}
	return errJobClosed
}

// send sends a message to the root.
func (j *Job) send(m *control.Message) {
	j.mu.Lock()
	l := j.links[0]
	j.mu.Unlock()
	if l != nil {
		l.send(m)
	}
}

// RemoteError is an error of another rank.
type RemoteError struct {
	Rank int
	Host string // empty for rank 0
	Text string

	here  bool  // on this machine, in the process of an actor
	inner error // what an [ErrorCodec] has carried
}

// Unwrap returns what the [ErrorCodec] of the job has carried, or nil.
func (e *RemoteError) Unwrap() error { return e.inner }

// Error is one line that names the rank, unless that is the process of an actor of this one.
func (e *RemoteError) Error() string {
	text := strings.ReplaceAll(e.Text, "\n", "; ")
	if e.here {
		return text
	}
	if e.Host == "" {
		return fmt.Sprintf("rank %d: %s", e.Rank, text)
	}
	return fmt.Sprintf("rank %d on %s: %s", e.Rank, e.Host, text)
}

// describe puts an error into a message to the root.
func (j *Job) describe(m *control.Message, err error) {
	m.Text = err.Error()
	if c := j.cfg.Errors; c != nil {
		m.Data = c.EncodeError(err)
	}
}

// attach has the messages about a stage handled by h until it is detached. Ranks that have come to it before enter now.
func (j *Job) attach(stage string, h stageHandler) *attached {
	a := &attached{h: h}
	// No message comes in between.
	a.mu.Lock()
	defer a.mu.Unlock()
	j.mu.Lock()
	j.stages[stage] = a
	waiting := j.entered[stage]
	delete(j.entered, stage)
	j.mu.Unlock()
	for _, w := range waiting {
		if !w.l.isGone() {
			h.enter(w.l, w.m)
		}
	}
	return a
}

// detach returns once the handler is not called any more.
func (j *Job) detach(stage string, a *attached) {
	a.mu.Lock()
	a.gone = true
	a.mu.Unlock()
	j.mu.Lock()
	delete(j.stages, stage)
	j.mu.Unlock()
}

// conclude tells all ranks that have come to a stage, and those that will, how it ended.
func (j *Job) conclude(stage string, results []Task, err error) {
	m := &control.Message{Kind: kindStageOver, Stage: stage, Tasks: wireTasks(results)}
	if err != nil {
		m = &control.Message{Kind: kindStageOver, Stage: stage, Flags: flagFailed, Text: err.Error()}
	}
	j.tellOver(stage, m, m)
}

// list returns the links. The lock is held.
func (j *Job) list() []*link {
	list := make([]*link, 0, len(j.links))
	for _, l := range j.links {
		list = append(list, l)
	}
	return list
}

// Close ends this rank's part. On the root, err tells the others why the job is not done; nil means that it is, and then the
// root stays until the others have heard of it.
func (j *Job) Close(err error) {
	if j == nil {
		return
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return
	}
	j.children.settle()
	if j.cfg.Rank == 0 && err == nil {
		j.waitForOthers()
	}
	j.closed = true
	links := j.list()
	l := j.accept
	j.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	m := &control.Message{Kind: kindLeave}
	if j.cfg.Rank == 0 {
		m.Kind = kindEnd
	}
	if err != nil {
		m.Text = err.Error()
	}
	var farewells sync.WaitGroup
	for _, l := range links {
		farewells.Go(func() {
			l.send(m)
			_ = l.conn.Finish(l.deaf)
		})
	}
	farewells.Wait()
	j.cancel(errJobClosed)
	j.all.Wait()
	j.children.end()
	for _, dir := range j.scratch {
		_ = os.RemoveAll(dir) // a temporary folder is the system's to remove if this fails
	}
}

// lastWords is how long the root waits at the end for ranks that are still reading results.
const lastWords = 30 * time.Second

// waitForOthers waits until the other ranks have left, or are lost. The lock is held.
func (j *Job) waitForOthers() {
	late := false
	t := time.AfterFunc(lastWords, func() {
		j.mu.Lock()
		late = true
		j.leaves.Broadcast()
		j.mu.Unlock()
	})
	defer t.Stop()
	for len(j.links) > 0 && !late && j.ctx.Err() == nil {
		j.leaves.Wait()
	}
}

func wireCounters(counts []counter) (out []control.Sum) {
	for _, c := range counts {
		out = append(out, control.Sum{Name: c.name, N: c.n})
	}
	return out
}

func countersFromWire(sums []control.Sum) (out []counter) {
	for _, c := range sums {
		out = addCounter(out, counter{c.Name, c.N})
	}
	return out
}

func wireTasks(tasks []Task) []control.Task {
	if len(tasks) == 0 {
		return nil
	}
	out := make([]control.Task, len(tasks))
	for i, t := range tasks {
		out[i] = control.Task{ID: t.ID, Data: t.Data, Size: t.Size}
	}
	return out
}

func fromWire(tasks []control.Task) []Task {
	out := make([]Task, len(tasks))
	for i, t := range tasks {
		out[i] = Task{ID: t.ID, Data: t.Data, Size: t.Size}
	}
	return out
}

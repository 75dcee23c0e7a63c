package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// testJob is a job whose ranks are goroutines of the test, each as if it were a process.
type testJob struct {
	size    int
	silence time.Duration
	stop    bool
	secret  []byte
	notes   []string
	mu      sync.Mutex
}

// run joins all ranks, calls body on each, and returns its errors by rank.
func (tj *testJob) run(t *testing.T, body func(ctx context.Context, j *Job) error) []error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, tj.size)
	var all sync.WaitGroup
	for rank := range tj.size {
		cfg := JobConfig{
			Rank: rank, Size: tj.size, Root: l.Addr().String(), Name: t.Name(), Spec: "s", Workers: 2, Silence: tj.silence,
			JoinTimeout: 20 * time.Second, StopOnLoss: tj.stop, Secret: tj.secret,
		}
		if rank == 0 {
			cfg.Listener = l
			cfg.Note = func(line string) {
				tj.mu.Lock()
				defer tj.mu.Unlock()
				tj.notes = append(tj.notes, line)
			}
		}
		all.Go(func() {
			j, err := Join(t.Context(), cfg)
			if err != nil {
				errs[rank] = err
				return
			}
			errs[rank] = body(t.Context(), j)
			j.Close(errs[rank])
		})
	}
	all.Wait()
	return errs
}

// turns hold back tasks until each of so many ranks is at one: no rank comes too late to get any, however busy the machine is.
type turns struct {
	mu   sync.Mutex
	want int
	came map[int]bool
	all  chan struct{}
}

func newTurns(ranks int) *turns {
	return &turns{want: ranks, came: make(map[int]bool), all: make(chan struct{})}
}

// at says that a rank is at a task, and waits until all are.
func (w *turns) at(rank int) {
	w.mu.Lock()
	if !w.came[rank] {
		if w.came[rank] = true; len(w.came) == w.want {
			close(w.all)
		}
	}
	w.mu.Unlock()
	select {
	case <-w.all:
	case <-time.After(time.Minute):
		panic("a rank is given no task")
	}
}

// executor makes the executor of a rank of a job, over the folder dir, and has it closed.
func jobExecutor(ctx context.Context, j *Job, dir string, use func(e *Executor) error) error {
	var w *Work
	if dir != "" {
		var err error
		w, err = j.ShareWork(ctx, func() (*Work, error) { return OpenWork(dir, []byte("meta")) })
		if err != nil {
			return err
		}
		defer w.Close()
		if string(w.Meta()) != "meta" {
			return fmt.Errorf("meta is %q", w.Meta())
		}
	}
	e, err := New(Config{Job: j, Work: w, Workers: 2, ProgressInterval: time.Millisecond})
	if err != nil {
		return err
	}
	return errors.Join(use(e), e.Close())
}

func TestJobPool(t *testing.T) {
	for _, size := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			os.Mkdir(out, 0o777)
			var mu sync.Mutex
			did, turns := make(map[int]int), newTurns(size)
			tj := &testJob{size: size}
			errs := tj.run(t, func(ctx context.Context, j *Job) error {
				return jobExecutor(ctx, j, filepath.Join(dir, "work"), func(e *Executor) error {
					st := &stage{name: "first", process: func(_ context.Context, task Task, out2 *Attempt) ([]Task, error) {
						turns.at(j.Rank())
						mu.Lock()
						did[j.Rank()]++
						mu.Unlock()
						out2.Count("rows", 2)
						out2.Progress(3)
						f, err := out2.Create("f")
						if err != nil {
							return nil, err
						}
						fmt.Fprintf(f, "content of %s", task.ID)
						p, err := out2.Place(filepath.Join(out, task.ID))
						if err != nil {
							return nil, err
						}
						fmt.Fprintf(p, "placed by %s", task.ID)
						return []Task{{Data: []byte(f.Name())}}, errors.Join(f.Close(), p.Close())
					}}
					second := &stage{name: "second", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
						f, err := e.cfg.Work.OpenCommitted(string(task.Data))
						if err != nil {
							return nil, err
						}
						defer f.Close()
						b := make([]byte, 100)
						n, _ := f.Read(b)
						return []Task{{Data: b[:n]}}, nil
					}}
					got, err := e.Execute(ctx, []Stage{st, second}, makeTasks(100))
					if err != nil {
						return err
					}
					for i, task := range got {
						if want := fmt.Sprintf("content of t%05d", i); string(task.Data) != want || task.ID != fmt.Sprintf("t%05d", i) {
							return fmt.Errorf("result %d is %s: %q", i, task.ID, task.Data)
						}
					}
					if j.Root() {
						s := e.Stats().Stages[0]
						if s.Counters["rows"] != 200 || s.Units != 300 || s.Attempts != 100 || s.Files != 200 || s.Tasks != 100 {
							return fmt.Errorf("%+v", s)
						}
					}
					if st.setups.Load() != st.closes.Load() {
						return fmt.Errorf("actors left")
					}
					return nil
				})
			})
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			if len(did) != size {
				t.Errorf("tasks by rank: %v", did)
			}
			files, _ := os.ReadDir(out)
			if len(files) != 100 {
				t.Errorf("%d files placed", len(files))
			}
		})
	}
}

// Errors of any rank reach all, and name the rank.
func TestJobFails(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("bad file") },
		"panic": func() error { panic("bad file") },
	} {
		t.Run(name, func(t *testing.T) {
			tj := &testJob{size: 3}
			errs := tj.run(t, func(ctx context.Context, j *Job) error {
				return jobExecutor(ctx, j, "", func(e *Executor) error {
					st := &stage{process: func(ctx context.Context, task Task, _ *Attempt) ([]Task, error) {
						if j.Rank() == 2 {
							return nil, fail()
						}
						<-ctx.Done() // or one rank does it all
						return nil, nil
					}}
					_, err := e.Execute(ctx, []Stage{st}, makeTasks(100))
					st.check(t)
					return err
				})
			})
			for rank, err := range errs {
				if err == nil || !strings.Contains(err.Error(), "bad file") || !strings.Contains(err.Error(), "rank 2") {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		})
	}
}

// A rank that leaves in mid-run is lost; the others do its work.
func TestJobLoss(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprint("stop=", stop), func(t *testing.T) {
			tj, turns := &testJob{size: 3, stop: stop}, newTurns(3)
			var once atomic.Bool
			errs := tj.run(t, func(ctx context.Context, j *Job) error {
				return jobExecutor(ctx, j, "", func(e *Executor) error {
					st := &stage{process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
						turns.at(j.Rank())
						if j.Rank() == 1 && !once.Swap(true) {
							j.links[0].conn.Break() // as if it were killed
							time.Sleep(20 * time.Millisecond)
						}
						return []Task{{Data: task.Data}}, nil
					}}
					got, err := e.Execute(ctx, []Stage{st}, makeTasks(300))
					if err == nil && (len(got) != 300 || !slices.EqualFunc(got, makeTasks(300), func(a, b Task) bool { return string(a.Data) == string(b.Data) })) {
						err = fmt.Errorf("%d results", len(got))
					}
					st.check(t)
					return err
				})
			})
			if !errors.Is(errs[1], ErrRankLost) {
				t.Errorf("the lost rank: %v", errs[1])
			}
			if stop {
				if !errors.Is(errs[0], ErrRankLost) || !strings.Contains(errs[0].Error(), "rank 1 on ") || errs[2] == nil {
					t.Errorf("got %v", errs)
				}
			} else if errs[0] != nil || errs[2] != nil {
				t.Errorf("got %v", errs)
			}
			if len(tj.notes) != 1 || !strings.Contains(tj.notes[0], "is lost") {
				t.Errorf("notes %q", tj.notes)
			}
		})
	}
}

// Ranks that do not fit are turned away, by name on both sides, and ranks that do not come are named.
func TestJoinRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good := JobConfig{Rank: 1, Size: 3, Root: l.Addr().String(), Name: "job", Spec: "x", JoinTimeout: time.Minute}
	var rootErr error
	var mu sync.Mutex
	var notes []string
	var all sync.WaitGroup
	ctx, enough := context.WithCancelCause(t.Context())
	defer enough(nil)
	all.Go(func() {
		cfg := good
		cfg.Rank, cfg.Listener = 0, l
		cfg.Note = func(line string) { mu.Lock(); notes = append(notes, line); mu.Unlock() }
		_, rootErr = Join(ctx, cfg)
	})
	for want, bend := range map[string]func(*JobConfig){
		`it is of the job "other"`:    func(c *JobConfig) { c.Name = "other" },
		"says that there are 4 ranks": func(c *JobConfig) { c.Size = 4 },
		"with other options":          func(c *JobConfig) { c.Spec = "y" },
	} {
		cfg := good
		bend(&cfg)
		_, err := Join(t.Context(), cfg)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	secret := good
	secret.JoinTimeout = 2 * time.Second
	secret.Secret = []byte("q83vEjRWeJCrze8S")
	if _, err := Join(t.Context(), secret); err == nil || !strings.Contains(err.Error(), "it does not answer with TLS") {
		t.Errorf("a rank with a secret: %v", err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n")
	c.Close()
	j, err := Join(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	enough(errors.New("it took too long"))
	all.Wait()
	j.Close(nil)
	if rootErr == nil || !strings.Contains(rootErr.Error(), "rank 0 of 3 misses rank 2: it took too long") {
		t.Errorf("got %v", rootErr)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(notes) < 5 {
		t.Errorf("notes %q", notes)
	}
}

// With a secret only those who have it take part, and what fails says so on both sides.
func TestJoinSecret(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good := JobConfig{
		Rank: 1, Size: 2, Root: l.Addr().String(), Name: "job", Secret: []byte("q83vEjRWeJCrze8S"), JoinTimeout: 10 * time.Second,
	}
	notes := make(chan string, 10)
	var all sync.WaitGroup
	all.Go(func() {
		cfg := good
		cfg.Rank, cfg.Listener = 0, l
		cfg.Note = func(line string) { notes <- line }
		j, err := Join(t.Context(), cfg)
		if err != nil {
			t.Error(err)
		}
		j.Close(nil)
	})
	bad := good
	bad.Secret = []byte("another one: 16+ bytes")
	if _, err := Join(t.Context(), bad); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "it has another secret, or none") {
		t.Errorf("another secret: %v", err)
	}
	bad.Secret = nil
	if _, err := Join(t.Context(), bad); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "it does not use TLS") {
		t.Errorf("no secret: %v", err)
	}
	bad.Root, bad.Size = "192.0.2.1:7777", 2
	if _, err := Join(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("no secret off loopback: %v", err)
	}
	for range 2 {
		if line := <-notes; !strings.HasPrefix(line, "turned away a caller") {
			t.Errorf("note %q", line)
		}
	}
	// It is gone again before rank 0 looks, perhaps, and has come all the same.
	j, err := Join(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	j.Close(nil)
	all.Wait()
}

// Meet holds the root back until all that are there have come; a rank that is lost is not waited for.
func TestJobMeet(t *testing.T) {
	tj := &testJob{size: 4}
	var came atomic.Int32
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		if j.Rank() == 3 {
			time.Sleep(20 * time.Millisecond)
			j.links[0].conn.Break()
			return nil
		}
		if !j.Root() {
			time.Sleep(time.Duration(30*j.Rank()) * time.Millisecond)
			came.Add(1)
		}
		if err := j.Meet(ctx, "here"); err != nil {
			return err
		}
		if n := came.Load(); n != 2 {
			return fmt.Errorf("%d had come", n)
		}
		return j.Meet(ctx, "here")
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// A rank that dies with one actor at work and others idle loses one task, once: the idle actors are not given it.
func TestLostWithIdleActors(t *testing.T) {
	e := newExecutor(t, Config{})
	r := e.newRun(t.Context(), &stage{}, "pool")
	d := r.dispatcher(r.scope, 1, nil)
	a := &fakeActor{}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, i := range all {
		d.ready(&Env{Actor: i}, a)
	}
	d.add(item{task: Task{ID: "t"}})
	d.close()
	d.gone(all, errors.New("the rank is lost"))
	if r.failed() || a.given != 1 {
		t.Errorf("given out %d times, %v", a.given, r.reason())
	}
	d.stop()
}

// fakeActor counts what it is given.
type fakeActor struct{ given int }

func (a *fakeActor) give(*grant)    { a.given++ }
func (a *fakeActor) tooLong(*grant) {}
func (a *fakeActor) giveUp()        {}

// A rank whose connection breaks while it handles a message hears of it where it waits for a reply: what it handles may be waiting
// for just that.
func TestJobAskWhileHandling(t *testing.T) {
	tj := &testJob{size: 2, silence: time.Minute}
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		if j.Root() {
			j.mu.Lock()
			l := j.links[1]
			j.mu.Unlock()
			l.send(&control.Message{Kind: kindAbort, Stage: "stage"})
			if _, err := j.Share(ctx, "sent", func() ([]byte, error) { return nil, nil }); err != nil {
				return err
			}
			<-l.deaf // the other has left
			return nil
		}
		handling, asked := make(chan bool), make(chan error, 1)
		a := j.attach("stage", handlerFunc(func() {
			close(handling)
			asked <- func() error {
				_, err := j.ask(context.Background(), &control.Message{Kind: kindShare, Text: "never shared"})
				return err
			}()
		}))
		if _, err := j.Share(ctx, "sent", func() ([]byte, error) { return nil, nil }); err != nil {
			return err
		}
		<-handling
		j.mu.Lock()
		l := j.links[0]
		j.mu.Unlock()
		l.conn.Break()
		err := <-asked
		j.detach("stage", a)
		if err == nil {
			return errors.New("a reply over a broken connection")
		}
		return nil
	})
	for r, err := range errs {
		if err != nil && !errors.Is(err, ErrRankLost) {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

// handlerFunc handles a message of any kind.
type handlerFunc func()

func (f handlerFunc) enter(*link, *control.Message)  {}
func (f handlerFunc) handle(*link, *control.Message) { f() }
func (f handlerFunc) left(*link, error)              {}

package executor

import (
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs/crashfs"
)

func TestCommitRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, num := rapid.String(), rapid.Int64Range(0, 1<<62)
		c := &commit{
			stage: text.Draw(t, "stage"), task: text.Draw(t, "task"),
			epoch: rapid.Uint32().Draw(t, "epoch"), attempt: rapid.Uint32().Draw(t, "attempt"),
		}
		copy(c.input[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "input"))
		for range rapid.IntRange(0, 3).Draw(t, "files") {
			c.files = append(c.files, fileInfo{
				name: text.Draw(t, "name"), placed: rapid.Bool().Draw(t, "placed"),
				size: num.Draw(t, "size"), crc: rapid.Uint32().Draw(t, "crc"),
			})
		}
		for range rapid.IntRange(0, 3).Draw(t, "results") {
			r := Task{ID: text.Draw(t, "id"), Size: rapid.Int64().Draw(t, "size")}
			if data := text.Draw(t, "data"); data != "" {
				r.Data = []byte(data)
			}
			c.results = append(c.results, r)
		}
		for range rapid.IntRange(0, 3).Draw(t, "counters") {
			c.counters = append(c.counters, counter{text.Draw(t, "counter"), rapid.Int64().Draw(t, "n")})
		}
		rec := appendCommit(nil, c)
		decode := func(b []byte) (*commit, error) {
			d := &decoder{b: b[1:], intern: make(map[string]string)}
			got := d.commit()
			if d.err == nil && len(d.b) > 0 {
				t.Fatalf("%d bytes left", len(d.b))
			}
			return got, d.err
		}
		if got, err := decode(rec); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("got %+v, %v, want %+v", got, err, c)
		}
		if n := rapid.IntRange(1, len(rec)-1).Draw(t, "cut"); n < len(rec) {
			if _, err := decode(rec[:n]); err == nil {
				t.Fatalf("a record cut to %d of %d bytes was taken", n, len(rec))
			}
		}
	})
}

// FuzzRecords gives the reader any bytes as the records of a frame: it never panics, and takes no more
// memory than they have.
func FuzzRecords(f *testing.F) {
	f.Add(appendRecord(nil, headerRecords(7, []byte("meta"))[0]), true)
	f.Add(appendRecord(nil, appendEpoch(nil, 3, "who")), false)
	f.Add(appendRecord(appendRecord(nil, appendIntent(nil, "/a")), appendRevoke(nil, &commit{stage: "s", task: "t"})), false)
	f.Add(appendRecord(nil, appendCommit(nil, &commit{
		stage: "s", task: "t", files: []fileInfo{{name: "f", size: 3}}, results: []Task{{ID: "r", Data: []byte("d")}},
		counters: []counter{{"c", -1}},
	})), false)
	f.Fuzz(func(t *testing.T, data []byte, first bool) {
		w := &Work{commits: make(map[string]map[string]*commit), files: make(map[string]*openState)}
		var intents []string
		for d := (decoder{b: data, intern: make(map[string]string)}); len(d.b) > 0; first = false {
			if err := w.replay(&d, first, &intents); err != nil {
				return
			}
		}
	})
}

// logImage is the log and the files of a finished job.
func logImage(t testing.TB) (log []byte, fresh func(log []byte) *crashfs.FS, commits map[string]map[string]*commit) {
	t.Helper()
	fsys := crashfs.New()
	if err := fsys.MkdirAll("/out", 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // two epochs
		if _, _, err := crashJob(fsys, "/job", "/out", makeTasks(4)); err != nil {
			t.Fatal(err)
		}
	}
	log, err := readFile(fsys, "/job/log")
	if err != nil {
		t.Fatal(err)
	}
	w, err := openWork(fsys, "/job", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	return log, func(log []byte) *crashfs.FS {
		fsys := crashfs.New()
		if err := fsys.MkdirAll("/job", 0); err != nil {
			t.Fatal(err)
		}
		f, err := fsys.OpenFile("/job/log", os.O_WRONLY|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(log); err != nil {
			t.Fatal(err)
		}
		return fsys
	}, w.commits
}

// FuzzLog changes and cuts a log at random: whatever is still said to be committed is what was.
func FuzzLog(f *testing.F) {
	log, fresh, want := logImage(f)
	for seed := range uint64(200) {
		f.Add(seed, []byte(nil))
	}
	f.Add(uint64(1), []byte("gdovabcd"))
	f.Fuzz(func(t *testing.T, seed uint64, insert []byte) {
		rng := rand.New(rand.NewPCG(seed, 1))
		bad := append([]byte(nil), log...)
		if rng.IntN(2) == 0 {
			bad = bad[:rng.IntN(len(bad)+1)]
		}
		for n := rng.IntN(3); n > 0 && len(bad) > 0; n-- {
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		}
		if len(insert) > 0 {
			at := rng.IntN(len(bad) + 1)
			bad = slices.Concat(bad[:at], insert[:min(len(insert), 100)], bad[at:])
		}
		w, err := openWork(fresh(bad), "/job", nil)
		if err != nil {
			if !errors.Is(err, ErrLogDamaged) {
				t.Fatal(err)
			}
			return
		}
		defer w.Close()
		for stage, tasks := range w.commits {
			for task, c := range tasks {
				if !reflect.DeepEqual(c, want[stage][task]) {
					t.Fatalf("stage %s, task %s: %+v, want %+v", stage, task, c, want[stage][task])
				}
			}
		}
	})
}

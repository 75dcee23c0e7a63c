package executor_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// wordCount is a shuffle stage. A task is the path of a text file, whose name begins with its language; a partition
// becomes a file in out, with a line for each of its words: language, word and how often it occurs.
type wordCount struct {
	out   string
	parts int
}

func (wordCount) Name() string                  { return "word-count" }
func (wordCount) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (w wordCount) TotalParts() int             { return w.parts }

func (w wordCount) NewShuffleActor(context.Context, *executor.Env) (executor.ShuffleActor, error) {
	return w, nil
}
func (wordCount) Close() error { return nil }

// Insert counts the words of one file and sends each count to the partition of its word: one chunk for a partition.
func (w wordCount) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	path := string(task.Data)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	language, _, _ := strings.Cut(filepath.Base(path), "-")
	counts := make(map[string]int)
	for word := range strings.FieldsSeq(strings.ToLower(string(text))) {
		counts[language+"\t"+strings.Trim(word, ".,;:!?")]++
	}
	lines, rows := make([][]byte, w.parts), make([]int64, w.parts)
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		h := fnv.New64a()
		h.Write([]byte(key))
		p := h.Sum64() % uint64(w.parts)
		lines[p] = fmt.Appendf(lines[p], "%s\t%d\n", key, counts[key])
		rows[p]++
	}
	for p, data := range lines {
		if len(data) == 0 || !out.Wanted(p) { // not if an earlier run has written the file of p
			continue
		}
		buf, err := out.Alloc(ctx, len(data)) // waits while memory is short
		if err != nil {
			return err
		}
		copy(buf.Bytes(), data)
		if err := out.Insert(ctx, shuffle.Chunk{Partition: p, Rows: rows[p], Data: buf}); err != nil {
			return err
		}
	}
	return nil
}

// Extract adds the counts of a partition up and writes them to a file, which is there when all of it is, or not at all.
func (w wordCount) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	counts := make(map[string]int)
	for chunk, err := range part.Chunks(ctx) {
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(chunk.Data.Bytes())) {
			tab := strings.LastIndexByte(line, '\t')
			n, err := strconv.Atoi(line[tab+1 : len(line)-1])
			if err != nil {
				return nil, err
			}
			counts[line[:tab]] += n
		}
	}
	f, err := out.Place(filepath.Join(w.out, out.Task().ID+".tsv"))
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if _, err := fmt.Fprintf(f, "%s\t%d\n", key, counts[key]); err != nil {
			return nil, err
		}
	}
	return []executor.Task{{Data: []byte(f.Name())}}, f.Close()
}

// Words are counted by language: text files in, one file for each partition out, killed and started again at will.
func Example_wordCount() {
	dir, err := os.MkdirTemp("", "word-count-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{
		"en-1.txt": "The cat and the dog.", "en-2.txt": "A dog is a dog is a dog.",
		"de-1.txt": "Ende gut, alles gut.", "de-2.txt": "Alles hat ein Ende.",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			fmt.Println(err)
		}
	}
	files, err := count(context.Background(), dir, filepath.Join(dir, "work"))
	if err != nil {
		fmt.Println(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(string(file.Data))
		if err != nil {
			fmt.Println(err)
		}
		fmt.Printf("%s\n%s", file.ID, strings.ReplaceAll(string(data), "\t", " "))
	}
	// Output:
	// part-00000
	// de ende 2
	// en a 3
	// en the 2
	// part-00001
	// de hat 1
	// en cat 1
	// part-00002
	// de alles 2
	// de ein 1
	// de gut 2
	// en and 1
	// en dog 4
	// en is 2
}

// count runs the stage on three ranks. With the same work folder it goes on where an earlier run was killed.
func count(ctx context.Context, dir, workDir string) ([]executor.Task, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var tasks []executor.Task
	for _, path := range paths {
		tasks = append(tasks, executor.Task{ID: filepath.Base(path), Data: []byte(path)})
	}
	work, err := executor.OpenWork(workDir, nil)
	if err != nil {
		return nil, err
	}
	defer work.Close()
	e, err := executor.New(executor.Config{Ranks: 3, Work: work})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return e.Shuffle(ctx, wordCount{out: dir, parts: 3}, tasks)
}

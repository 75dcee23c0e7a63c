package executor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// tokenize is a plain stage: a task holds "language: text", its result one "language word" per line.
type tokenize struct{}

func (tokenize) Name() string                  { return "tokenize" }
func (tokenize) Resources() executor.Resources { return executor.Resources{CPUs: 1} }

func (tokenize) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return tokenize{}, nil
}

func (tokenize) Process(_ context.Context, t executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	language, text, ok := strings.Cut(string(t.Data), ": ")
	if !ok {
		return nil, fmt.Errorf("%q does not start with a language", t.Data)
	}
	var lines []string
	for _, word := range strings.Fields(strings.ToLower(text)) {
		lines = append(lines, language+" "+strings.Trim(word, ".,"))
	}
	out.Count("words", int64(len(lines)))
	return []executor.Task{{Data: []byte(strings.Join(lines, "\n"))}}, nil
}

func (tokenize) Close() error { return nil }

// countWords is a shuffle stage: words meet in the partition that their hash says, where they are counted.
type countWords struct{}

func (countWords) Name() string                  { return "count-words" }
func (countWords) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (countWords) TotalParts() int               { return 4 }

func (countWords) NewShuffleActor(context.Context, *executor.Env) (executor.ShuffleActor, error) {
	return countWords{}, nil
}

func (countWords) Insert(ctx context.Context, t executor.Task, out *executor.PartWriter) error {
	parts := make([][]string, out.TotalParts())
	for _, word := range strings.Split(string(t.Data), "\n") {
		h := fnv.New32a()
		h.Write([]byte(word))
		p := h.Sum32() % uint32(len(parts))
		parts[p] = append(parts[p], word)
	}
	for p, words := range parts {
		if len(words) == 0 || !out.Wanted(p) {
			continue
		}
		text := strings.Join(words, "\n")
		buf, err := out.Alloc(ctx, len(text)) // waits while the memory is used up
		if err != nil {
			return err
		}
		copy(buf.Bytes(), text)
		if err := out.Insert(ctx, shuffle.Chunk{Partition: p, Rows: int64(len(words)), Data: buf}); err != nil {
			return err
		}
	}
	return nil
}

func (countWords) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	counts := make(map[string]int)
	for chunk, err := range part.Chunks(ctx) {
		if err != nil {
			return nil, err
		}
		for word := range strings.SplitSeq(string(chunk.Data.Bytes()), "\n") {
			counts[word]++
		}
	}
	data, err := json.Marshal(counts)
	return []executor.Task{{Data: data}}, err
}

func (countWords) Close() error { return nil }

// Words are counted by language on three ranks: a plain stage, a shuffle stage, and the results.
func Example() {
	texts := []string{
		"en: The cat and the dog. The end.",
		"de: Der Hund und die Katze, der Hund und die Maus.",
		"fr: Le chat et le chien, et la souris.",
		"en: A dog is a dog.",
		"de: Ende gut, alles gut.",
	}
	var tasks []executor.Task
	for i, text := range texts {
		tasks = append(tasks, executor.Task{ID: fmt.Sprint("text-", i), Data: []byte(text), Size: int64(len(text))})
	}
	if err := run(tasks); err != nil {
		fmt.Println(err)
	}
	// Output:
	// de: 14 words, most often 2 der
	// en: 12 words, most often 3 dog
	// fr: 8 words, most often 2 et
}

func run(tasks []executor.Task) (err error) {
	ctx := context.Background()
	e, err := executor.New(executor.Config{Ranks: 3})
	if err != nil {
		return err
	}
	defer e.Close()
	if tasks, err = e.Execute(ctx, []executor.Stage{tokenize{}}, tasks); err != nil {
		return err
	}
	parts, err := e.Shuffle(ctx, countWords{}, tasks)
	if err != nil {
		return err
	}
	total, best, most := make(map[string]int), make(map[string]string), make(map[string]int)
	for _, part := range parts {
		var counts map[string]int
		if err := json.Unmarshal(part.Data, &counts); err != nil {
			return err
		}
		for key, n := range counts {
			language, word, _ := strings.Cut(key, " ")
			total[language] += n
			if n > most[language] || n == most[language] && word < best[language] {
				best[language], most[language] = word, n
			}
		}
	}
	for _, language := range slices.Sorted(maps.Keys(total)) {
		fmt.Printf("%s: %d words, most often %d %s\n", language, total[language], most[language], best[language])
	}
	return nil
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
)

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%s %s: %v\n%s", resp.Status, resp.Header, err, body)
	}
	return string(body)
}

// failing is a stage one of whose tasks fails at first.
type failing struct{ name string }

func (s failing) Name() string                                                    { return s.name }
func (s failing) Resources() executor.Resources                                   { return executor.Resources{} }
func (s failing) NewActor(context.Context, *executor.Env) (executor.Actor, error) { return s, nil }
func (s failing) Close() error                                                    { return nil }

func (s failing) Process(_ context.Context, t executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	out.Progress(100)
	out.ProgressRows(7)
	if out.Number() == 0 && t.ID == "b" {
		return nil, executor.Transient(errors.New("again"))
	}
	return nil, nil
}

// Metrics say what the executors of a command did, summed over those that had a stage of one name.
func TestMetrics(t *testing.T) {
	rep, err := newReporter("none", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{}
	s, err := serveMetrics(":0", c)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.url, "http://127.0.0.1:") {
		t.Errorf("without a host it listens at %s", s.url)
	}
	if body := get(t, s.url); !strings.Contains(body, "dovetail_build_info{") || strings.Contains(body, "dovetail_stage") ||
		!strings.Contains(body, "\ngo_goroutines ") {
		t.Errorf("before anything ran: %s", body)
	}
	rep.metrics = c
	budget := mem.NewBudget(1 << 20)
	for range 2 {
		e, err := executor.New(executor.Config{Progress: rep, Workers: 2, Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Execute(t.Context(), []executor.Stage{failing{"work"}}, []executor.Task{{ID: "a"}, {ID: "b"}, {ID: "c"}})
		if err := errors.Join(err, e.Close()); err != nil {
			t.Fatal(err)
		}
	}
	held, _ := budget.TryReserve("test", 1000)
	body := get(t, s.url)
	held.Release()
	for _, want := range []string{
		`dovetail_stage_tasks{stage="work"} 6`, `dovetail_stage_tasks_done_total{stage="work"} 6`, `dovetail_stage_attempts_total{stage="work"} 8`,
		`dovetail_stage_retries_total{stage="work"} 2`, `dovetail_stage_tasks_reused_total{stage="work"} 0`, `dovetail_stage_running{stage="work"} 0`,
		`dovetail_stage_rows_total{stage="work"} 56`, `dovetail_stage_bytes{stage="work"} 600`, `dovetail_stage_actors{stage="work"} 0`,
		`dovetail_stage_spilled_bytes_total{stage="work"} 0`, `dovetail_stage_actors_replaced_total{stage="work"} 0`,
		"dovetail_memory_budget_used_bytes 1000", "dovetail_memory_budget_limit_bytes 1.048576e+06", "dovetail_devices 0",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	for _, name := range []string{"compute", "wait", "setup", "commit", "wall"} {
		if !regexp.MustCompile(`\ndovetail_stage_` + name + `_seconds_total\{stage="work"\} [0-9.e-]+\n`).MatchString(body) {
			t.Errorf("no seconds of %s in\n%s", name, body)
		}
	}
	s.close()
	if _, err := http.Get(s.url); err == nil {
		t.Error("it still answers")
	}
}

// A command serves metrics and writes its event log while it runs, and no longer.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"a\"}\n")
	log := writeFile(t, filepath.Join(dir, "events.jsonl"), strings.Repeat("what was there\n", 10_000))
	r, w := io.Pipe()
	codes := make(chan int, 1)
	var out bytes.Buffer
	go func() {
		defer w.Close()
		// The program waits for everything it says to be read, so it cannot end while this test looks at it.
		codes <- run([]string{
			"dedup", "--progress", "json", "--input", filepath.Join(dir, "in"), "--output", filepath.Join(dir, "out"),
			"--metrics-addr", "127.0.0.1:0", "--event-log", log,
		}, &out, w)
	}()
	url, scraped := "", 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var e struct {
			Event, Note string
			Info        struct{ Stage string }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if at, ok := strings.CutPrefix(e.Note, "metrics at "); ok {
			url = at
		}
		if e.Event == "stage_started" {
			body := get(t, url)
			scraped++
			if !strings.Contains(body, fmt.Sprintf("dovetail_stage_running{stage=%q} ", e.Info.Stage)) {
				t.Errorf("%s is not in\n%s", e.Info.Stage, body)
			}
		}
	}
	if code := <-codes; code != 0 || scraped == 0 {
		t.Fatalf("exit code %d, scraped %d times, %s", code, scraped, out.String())
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it still answers")
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		var e struct{ Time, Level, Msg, Stage string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time == "" || e.Stage == "" {
			t.Fatalf("%q: %v", line, err)
		}
		seen[e.Msg]++
	}
	if seen["stage started"] != scraped || seen["stage finished"] != scraped || seen["attempt finished"] == 0 {
		t.Errorf("%d stages: %v", scraped, seen)
	}
}

func TestWatchMistakes(t *testing.T) {
	dir := t.TempDir()
	in := writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"a\"}\n")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, err := net.SplitHostPort(busy.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"dedup", "minhash", "dedup --compat curator --cache " + filepath.Join(dir, "cache")} {
		for _, c := range []struct {
			args string
			code int
			says []string
		}{
			{"--metrics-addr 9090", 2, []string{`--metrics-addr "9090": give HOST:PORT`}},
			{"--metrics-addr localhost:", 2, []string{"HOST:PORT"}},
			{"--metrics-addr :" + port, 1, []string{"--metrics-addr :" + port, "in use by another program", "0 for any"}},
			{"--metrics-addr 127.0.0.1:" + port, 1, []string{"in use by another program"}},
			{"--metrics-addr :99999", 1, []string{"--metrics-addr :99999", "99999"}},
			{"--event-log -", 2, []string{"--event-log -", "name of a file", "--progress json"}},
			{"--event-log " + dir, 1, []string{"--event-log " + dir, "cannot be made"}},
			{"--event-log " + filepath.Join(dir, "nowhere", "log"), 1, []string{"nowhere", "no such file"}},
		} {
			args := strings.Fields(command + " " + c.args)
			args = append(args, "--progress", "none", "--input", in, "--output", filepath.Join(dir, "out"))
			code, _, stderr := dovetail(args...)
			if code != c.code {
				t.Errorf("%s: exit code %d, want %d: %s", args, code, c.code, stderr)
			}
			checkLine(t, stderr, c.says)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("something was done")
	}
}

// The flags are those of every command that runs an executor.
func TestWatchFlags(t *testing.T) {
	for _, command := range []string{"dedup", "verify", "shuffle", "minhash", "lsh", "components", "exact", "remove"} {
		_, help, _ := dovetail(command, "--help")
		if !strings.Contains(help, "--metrics-addr") || !strings.Contains(help, "--event-log") {
			t.Errorf("%s has no such flags", command)
		}
	}
}

package main

import (
	"math"
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
)

// collector makes metrics of snapshots of executors, when it is asked. A command may run several, one after another; stages
// of one name are one to it.
type collector struct {
	mu   sync.Mutex
	seen []*executor.Executor
}

func (c *collector) observe(e *executor.Executor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, e)
}

// stageMetric is one number of every stage.
type stageMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*executor.StageSnapshot) float64
}

func ofStage(name, help string, value func(*executor.StageSnapshot) float64) stageMetric {
	kind := prometheus.GaugeValue
	if len(name) > 6 && name[len(name)-6:] == "_total" {
		kind = prometheus.CounterValue
	}
	return stageMetric{prometheus.NewDesc("dovetail_stage_"+name, help, []string{"stage"}, nil), kind, value}
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var stageMetrics = []stageMetric{
	ofStage("running", "1 while the stage runs.", func(s *executor.StageSnapshot) float64 { return yes(s.Running) }),
	ofStage("failed", "1 if the stage has ended with an error.", func(s *executor.StageSnapshot) float64 { return yes(s.Failed) }),
	ofStage("tasks", "Tasks known so far, inserts and partitions of a shuffle included.", func(s *executor.StageSnapshot) float64 { return float64(s.Tasks) }),
	ofStage("tasks_done_total", "Tasks that are done, reused ones included.", func(s *executor.StageSnapshot) float64 { return float64(s.TasksDone) }),
	ofStage("tasks_reused_total", "Tasks that an earlier run had done.", func(s *executor.StageSnapshot) float64 { return float64(s.Reused) }),
	ofStage("attempts_total", "Tries of tasks.", func(s *executor.StageSnapshot) float64 { return float64(s.Attempts) }),
	ofStage("retries_total", "Tries that failed and were followed by another.", func(s *executor.StageSnapshot) float64 { return float64(s.Retries) }),
	ofStage("actors", "Actors that are set up in this process.", func(s *executor.StageSnapshot) float64 { return float64(s.Actors) }),
	ofStage("actors_replaced_total", "Actors that were set up in the place of others that died.", func(s *executor.StageSnapshot) float64 { return float64(s.Replaced) }),
	ofStage("rows_total", "Rows worked on, in tries that failed too.", func(s *executor.StageSnapshot) float64 { return float64(s.Rows) }),
	ofStage("bytes", "Bytes worked on, those of tries that failed taken back.", func(s *executor.StageSnapshot) float64 { return float64(s.Units) }),
	ofStage("files_total", "Files committed.", func(s *executor.StageSnapshot) float64 { return float64(s.Files) }),
	ofStage("file_bytes_total", "Bytes of the files committed.", func(s *executor.StageSnapshot) float64 { return float64(s.Bytes) }),
	ofStage("spilled_bytes_total", "Bytes that the shuffle wrote to spill files.", func(s *executor.StageSnapshot) float64 { return float64(s.SpilledBytes) }),
	ofStage("wall_seconds_total", "Time from the start of the stage, to its end if it has ended.", func(s *executor.StageSnapshot) float64 { return s.WallSeconds }),
	ofStage("setup_seconds_total", "Time actors took to set up.", func(s *executor.StageSnapshot) float64 { return s.SetupSeconds }),
	ofStage("read_seconds_total", "Time in the calls of actors that they read.", func(s *executor.StageSnapshot) float64 { return s.ReadSeconds }),
	ofStage("write_seconds_total", "Time in the calls of actors that they wrote files.", func(s *executor.StageSnapshot) float64 { return s.WriteSeconds }),
	ofStage("compute_seconds_total", "Time in the calls of actors, without waiting, reading and writing.", func(s *executor.StageSnapshot) float64 { return s.ComputeSeconds }),
	ofStage("wait_seconds_total", "Time actors waited for work or for room in memory.", func(s *executor.StageSnapshot) float64 { return s.WaitSeconds }),
	ofStage("commit_seconds_total", "Time that making results permanent took.", func(s *executor.StageSnapshot) float64 { return s.CommitSeconds }),
}

var (
	memoryUsed    = prometheus.NewDesc("dovetail_memory_budget_used_bytes", "Bytes of the memory budget that are held.", nil, nil)
	memoryPeak    = prometheus.NewDesc("dovetail_memory_budget_peak_bytes", "The most bytes of the memory budget held at one time.", nil, nil)
	memoryLimit   = prometheus.NewDesc("dovetail_memory_budget_limit_bytes", "The memory budget, +Inf without a limit.", nil, nil)
	memoryWaiting = prometheus.NewDesc("dovetail_memory_budget_waiting", "Requests that wait for room in the memory budget.", nil, nil)
	devicesKnown  = prometheus.NewDesc("dovetail_devices", "Devices that actors may own.", nil, nil)
	devicesLost   = prometheus.NewDesc("dovetail_devices_lost", "Devices that were lost.", nil, nil)
	buildInfo     = prometheus.NewDesc("dovetail_build_info", "1, with the version of the program.", []string{"version", "goversion"}, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range stageMetrics {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{
		memoryUsed, memoryPeak, memoryLimit, memoryWaiting, devicesKnown, devicesLost, buildInfo,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(buildInfo, prometheus.GaugeValue, 1, version(), runtime.Version())
	var stages []string
	values := make(map[string][]float64)
	var last executor.Snapshot
	for _, e := range c.seen {
		last = e.Snapshot()
		for i := range last.Stages {
			s := &last.Stages[i]
			if values[s.Name] == nil {
				stages = append(stages, s.Name)
				values[s.Name] = make([]float64, len(stageMetrics))
			}
			for k, m := range stageMetrics {
				values[s.Name][k] += m.value(s)
			}
		}
	}
	for _, name := range stages {
		for k, m := range stageMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, values[name][k], name)
		}
	}
	if len(c.seen) == 0 {
		return
	}
	limit := float64(last.Memory.Limit)
	if last.Memory.Limit == mem.Unlimited {
		limit = math.Inf(1)
	}
	for _, g := range []struct {
		desc  *prometheus.Desc
		value float64
	}{
		{memoryUsed, float64(last.Memory.Used)}, {memoryPeak, float64(last.Memory.Peak)}, {memoryLimit, limit},
		{memoryWaiting, float64(last.Memory.Waiting)}, {devicesKnown, float64(last.Devices)}, {devicesLost, float64(last.DevicesLost)},
	} {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value)
	}
}

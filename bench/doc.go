// Package bench measures Dovetail against limits of the machine and against other programs, on data that any machine can
// get, and puts the figures in one table.
//
// A figure is a ratio: what is measured, and what it is divided by, run in turn in one process or one after the other, again
// and again, and the ratio of each turn counts. So a machine that is busy for a while makes both slower. The table has the
// smallest, the median and the largest ratio, beside the target and a figure for quality.
//
//	make bench          # data, rivals, docs/bench.md, docs/bench.json, docs/bench.svg
//	make bench-smoke    # every workload once, small
//	make bench-scale    # time and memory as the documents double
//	make bench-compare BASE=main
//
// # Parts
//
// A [Workload] has sides, which are measured, and ratios between them, which are rows. [Workloads] lists all of them, for
// `dovetail bench run` and for BenchmarkWorkloads. Package data makes the texts, package truth finds their similar pairs by
// comparing all with all, package rivals runs other programs, package process measures programs, and package limit has the
// limits that are loops in this process. Package quality is about precision and recall alone.
//
// # Time and memory
//
// Where work is done by one thread in this process it is timed by the clock of that thread, which stands still while other
// programs run; where by several, by the processor time of the process; whole programs by the clock on the wall. Memory of
// a program is that of the tree of its processes. Files are in the page cache (warm) unless the table says cold: then they
// are dropped from it before every run.
package bench

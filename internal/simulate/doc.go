// Package simulate runs whole jobs of many ranks in one process, under a clock, a network and a disk that one seed decides:
// every delay, every cut and every repetition of a message, every rank that dies, stops or comes back, every error of
// the disk and every jump of the clock. After each run the results, the counts and what is left on the disk are
// compared with what they must be. A seed replays exactly, and prints its history.
//
// # How
//
// What runs is the program itself, not a model of it: package executor with its state machines, its control connections and
// its log, and the shuffle over package shuffle/tcp. It is compiled for wasip1, whose programs have one thread and get time,
// random numbers and files from whoever runs them: here, so that goroutines, maps and select statements take the same turns
// whenever the seed is the same, and time passes only when every goroutine waits. Which of those that can run is next is left to chance,
// by a change of Go's scheduler ([Build]). The network is in the guest (package guest):
// connections between ranks, made of queues and timers. The disk is here; it forgets what was not synced when a
// life of the job ends in a crash, and the next life goes on from what is left.
//
// This is deterministic simulation testing as FoundationDB made it known (Zhou et al., SIGMOD 2021).
//
// # What a seed is
//
// A plan of a few lives of one job over one disk, the last of them without faults. A life ends with the results, or with an error that says
// that the job can be run again, or in a crash at some operation of the disk. Each plan has between 1 and 64 ranks, see
// package guest.
//
// # Mutants
//
// [Mutants] are bugs, as changes of one line or two, that a simulation must find: the tests build the guest with each and
// count the seeds it survives.
package simulate

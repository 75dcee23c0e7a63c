// Package collective has the ranks of a job work on something together: wait for each other, exchange bytes, and
// reduce vectors of numbers to one that is the same, bit for bit, on all of them.
//
// A [Group] is one rank's end. The ranks make the same calls in the same order; a call returns on a rank when that rank
// has all it needs, which for every call includes that all other ranks have begun it.
//
// # How
//
// A call is one operation of package shuffle with a partition per rank, or two for a long vector. So it has what a
// shuffle has: credit, a memory limit, spilling, checksums, a ledger, and an abort that reaches every rank. Each rank
// sends each other at least one chunk that says what call it makes. As every rank sees all of these, all find the same
// fault if one differs, and none waits for a rank that does something else.
//
// The numbers of a vector are combined in the order of the ranks, whatever the order in which they arrive. A short
// vector is sent to everybody and reduced by each; of a long one, each rank reduces a piece and sends it round. Which
// way is taken changes no bit.
//
// # Failure
//
// A call ends on all ranks if it fails on one before all have what they need: the error names the rank and what
// happened there, and wraps [shuffle.ErrAborted]. A rank that fails later, for instance since there is no memory for its
// result, has left the group: the next call of the others ends with its error. So does one after a rank called
// [Group.Close] early. After a failure a group is good for nothing but Close.
//
// # Memory
//
// What is on its way is charged to the budget and spills like any shuffle. A [Received] is in memory as a whole, charged
// until it is released. AllReduce works in the caller's slice and needs room for a few chunks only. A call that finds no
// memory waits for Options.MemoryWait and then fails, since those who hold it may be waiting for this rank.
//
// # Compared with RapidsMPF and RAFT
//
// RapidsMPF (release 26.10) has AllGather, AllReduce and SparseAlltoall; RAFT comms are NCCL's calls.
//
//	AllGather          kept: any size from any rank, none at all too, in the order of the ranks; spills. Ours goes
//	                   straight from each rank to each, not round a ring: one hop instead of ranks-1, for the same
//	                   bytes received. Several messages of a rank arrive as one
//	AllReduce          kept: any number of ranks, own functions that need not commute, identical bits everywhere. Better:
//	                   a long vector crosses the wire twice, not log2(ranks) times; the order of reduction does not
//	                   depend on the length. NCCL promises identical bits on all ranks, not from run to run
//	SparseAlltoall     replaced by AllToAll, where sending nothing costs one short message
//	broadcast, gather, better: RapidsMPF has none of them (a barrier with UCXX alone)
//	  barrier
//	op id              kept: one for a group, used again for every call
//	mismatched calls   better: an error on all ranks; upstream hangs, or mixes the messages
//	lost rank          better: an error on all ranks that names it; upstream hangs
//	extract twice,     better: there is no such state
//	  unfinished
//	subset of ranks    kept: not possible; a group is all ranks of a communicator
package collective

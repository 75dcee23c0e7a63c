// Package shuffle moves rows to the rank that owns their partition: exactly once, within a memory limit,
// and with proof that nothing was lost, doubled or bent.
//
// Ranks are the processes (or threads of one process) of a job, numbered from 0. Each has a [Transport], on
// it one [Communicator], and on that one [Shuffler] per operation. Any number of tasks insert chunks of rows
// for any partitions; each rank says once that it has finished; then every rank takes the partitions that it
// owns. The shuffle does not look into the data. See the example for a whole program.
//
// # Tasks, attempts, and what counts
//
// Rows are inserted under an attempt of a task ([Shuffler.Begin]). Of all attempts of a task one is
// committed, and only its rows count, whatever others sent: a task can be tried again on another rank, and a
// rank that wakes from the dead can do no harm. Committing sends a line per partition with the number of
// chunks, rows and their multiset [Hash]. Before a partition is complete, every line has been compared with
// what arrived; a difference stops the operation and names the source and destination rank, the task and the
// partition. [Shuffler.Insert] without a task uses one of the rank's own.
//
// # Order
//
// A partition is extracted in the order of task, attempt and sequence, which depends neither on the number of
// ranks nor on timing nor on what was spilled.
//
// # Memory
//
// Buffers are charged to a [mem.Budget]. When it is short, chunks that wait to be sent or to be extracted
// are written to spill files and come back one at a time. A peer sends only what it was given credit for,
// and Insert waits while too much is queued. memory.go says why no limit, however small, makes ranks wait
// for each other; only a chunk and the program's own working memory must fit.
//
// # Failure
//
// An operation ends completely or, on every rank, with an [AbortError] that names the rank and the cause:
// Abort was called, a rank closed early, a link broke, a checksum or a ledger line was wrong, the disk was
// full. Nothing waits for ever unless a rank stays silent, which a transport, or whoever watches the ranks,
// must report.
//
// # Compared with RapidsMPF
//
// The contract is that of RapidsMPF's shuffler (release 26.10): insert, one InsertFinished per rank, wait,
// extract, an op id that can be used again right after Wait.
//
//	insert            kept: thread-safe, any partition, error after InsertFinished; better: blocks for
//	                  back-pressure, takes a context, belongs to a task attempt
//	empty insert      kept: without meta, data and rows skipped; meta alone is delivered
//	insert_finished   kept: exactly once per rank; better: a second call is an error here, not a crash elsewhere
//	finish counting   better: per task and partition, with rows and hashes, not only chunks per rank
//	rank that owns no kept: complete once it has finished and its data has left
//	  partition
//	wait              kept: repeatable, many waiters; a context instead of a timeout
//	wait_any, wait_on kept from release 26.04, as a superset; control messages overtake data, so a
//	                  partition is complete when its own rows are there
//	extract           better: waits, complete or an error, deterministic order, never part of a partition; and
//	                  a stream that needs memory for one chunk
//	finished()        kept: all arrived and all extracted
//	finished callback replaced by a channel, Done
//	local_partitions  kept: ascending
//	owners            kept: round robin, contiguous, user function; better: compared between ranks
//	shutdown          better: Close is safe in any state, aborts the others if it must, and never hangs
//	op id reuse       kept; better: a use is numbered in every message, so even a late message harms nothing
//	concurrent ops    kept: any number on one communicator
//	chunk id          replaced by task, attempt and sequence
//	wire header       better: magic, version, little-endian, lengths checked, CRC32C of header and data
//	receive tier      kept: memory if there is room; better: else disk, never an error
//	spill on insert   kept: SpillMemoryLimit
//	spill received    kept: at least as much as asked; better: also what waits to be sent, to disk, large
//	                  and cold first, outside locks
package shuffle

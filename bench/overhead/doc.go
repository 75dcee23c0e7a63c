// Package overhead measures what the executor adds to the main job: the share of the processor time of a whole run of package
// dedup that is spent in package executor's own code. `make bench-executor` prints it.
//
// A sample of the CPU profile belongs to the deepest of this project's functions on its stack. What belongs to package executor is
// told apart:
//
//   - hand: giving out tasks, actors, statistics and everything else that a plain loop over the tasks would not have;
//   - commit: syncing and renaming files and writing the log, which is what makes a run resumable;
//   - write: creating and writing files: buffering, CRC and the calls of the system. A plain loop would have to write them too, so
//     this is not what the executor adds, but for the CRC.
//
// Garbage collection that runs beside the program belongs to nobody, and is in the whole.
package overhead

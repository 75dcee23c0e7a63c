package goodput

// ChunkSize is the size of chunks that a [Way] moves: the largest number below 1 MiB that the loop in C can cut into three runs of words.
const ChunkSize = 1<<20 - 1<<20%24

// Names are those of the ways that UCX has to move bytes here: shared memory, as --transport auto uses it, and TCP over loopback.
var Names = []string{"shm", "tcp"}

// Package limit has loops that show what a core of this machine can do at best, for others to be divided by: the
// instructions that a signature takes and nothing else, the same formula without vector instructions, copying and reading
// memory.
package limit

// Package rowloops has the inner loops over rows and columns of fixed width that package columns of the shuffle and the
// stages of dedup share: hashing keys, hashing rows for the ledger, and moving values to their partitions. There is plain Go
// for all of them; on amd64 there are vector instructions beside it (build tag purego leaves them out), which compute the
// same. The assembly is made by the program in gen.
//
// Functions are safe for concurrent use as far as their arguments are not shared. They panic if a slice is too short.
package rowloops

//go:generate go -C gen run . -out ../loops_amd64.s -stubs ../loops_amd64.go -pkg rowloops

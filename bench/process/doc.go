// Package process runs a program and says what it cost: time on the clock, processor time and the memory of the whole tree
// of processes that it starts.
package process

//go:build !amd64 || purego

package lsh

// availableLoops returns plain Go, which runs everywhere.
func availableLoops() []*loops { return []*loops{&portableLoops} }

//go:build !amd64

package limit

func instructions(int) string { return "" }

//go:build !linux

package executor

import (
	"os"
	"os/exec"
	"syscall"
)

// endWithParent does nothing: a process whose connection to its parent breaks ends by itself.
func endWithParent(*exec.Cmd) {}

func programPath() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

func signalName(s syscall.Signal) string {
	if s == syscall.SIGKILL {
		return "SIGKILL"
	}
	return "a signal: " + s.String()
}

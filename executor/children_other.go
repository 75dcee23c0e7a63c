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

// signalOf is the name of the signal that ended a process, or "".
func signalOf(st *os.ProcessState) string {
	if st == nil {
		return ""
	}
	w, ok := st.Sys().(syscall.WaitStatus)
	if !ok || !w.Signaled() {
		return ""
	}
	if w.Signal() == syscall.SIGKILL {
		return "SIGKILL"
	}
	return "a signal: " + w.Signal().String()
}

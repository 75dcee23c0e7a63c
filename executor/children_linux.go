package executor

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// endWithParent has the kernel kill a process when the thread that started it ends.
func endWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// programPath is this very program, also if its file was replaced since it was started.
func programPath() string { return "/proc/self/exe" }

// signalOf is the name of the signal that ended a process, or "".
func signalOf(st *os.ProcessState) string {
	if st == nil {
		return ""
	}
	w, ok := st.Sys().(syscall.WaitStatus)
	if !ok || !w.Signaled() {
		return ""
	}
	if name := unix.SignalName(w.Signal()); name != "" {
		return name
	}
	return w.Signal().String()
}

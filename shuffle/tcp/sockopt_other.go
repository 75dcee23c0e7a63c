//go:build !linux

package tcp

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no such option: a cut link then shows when the system gives
// up sending again.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }

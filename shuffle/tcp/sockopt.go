package tcp

import (
	"fmt"
	"net"
	"time"
)

// tune makes a cut link show within the given time: by keep-alive probes when nothing is under way, and by the
// user timeout when something is and is not acknowledged. Without the latter the system tries for a quarter of
// an hour.
func tune(conn rawConn, timeout time.Duration) error {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		if other, ok := conn.(interface{ SetLinkTimeout(time.Duration) error }); ok {
			return other.SetLinkTimeout(timeout)
		}
		return nil
	}
	err := c.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable:   true,
		Idle:     max(time.Second, timeout/2),
		Interval: max(time.Second, timeout/6),
		Count:    3,
	})
	if err == nil {
		err = setUserTimeout(c, timeout)
	}
	if err != nil {
		return fmt.Errorf("socket options: %w", err)
	}
	return nil
}

//go:build cuda

package cuda

import (
	"fmt"

	"github.com/dovetail-dedup/dovetail/mem"
)

// IPCHandle names memory of a GPU to other processes of the machine.
type IPCHandle [ipcHandleBytes]byte

// Share returns the handle of a buffer that [Context.DeviceAllocator] made; one of a pool has that of the whole pool. The
// buffer must live as long as others have it open.
func (c *Context) Share(b *mem.Buffer) (h IPCHandle, err error) {
	if b.Tier() != mem.TierDevice {
		return h, fmt.Errorf("cuda: a buffer of tier %s cannot be shared between processes", b.Tier())
	}
	err = c.call("cuIpcGetMemHandle", func() (err error) {
		h, err = ipcHandle(b.DeviceAddr())
		return err
	})
	return h, err
}

// OpenShared returns the n bytes that another process shares. The process that made the handle cannot open it.
func (c *Context) OpenShared(h IPCHandle, n int) (*mem.Buffer, error) {
	var p uintptr
	err := c.call("cuIpcOpenMemHandle", func() (err error) {
		p, err = ipcOpen(h)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.made("shared buffers")
	return mem.NewDeviceBuffer(p, n, func(*mem.Buffer) {
		_ = c.call("cuIpcCloseMemHandle", func() error { return ipcClose(p) })
		c.gone("shared buffers")
	}), nil
}

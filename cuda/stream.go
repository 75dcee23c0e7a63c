//go:build cuda

package cuda

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorgonia.org/cu"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Stream is a queue of work of a GPU. What is in one stream is done in its order; between streams only events order anything.
// It belongs to one goroutine at a time. Buffers that are passed must not be released before the work is done: see [Stream.Fence].
type Stream struct {
	c *Context
	s cu.Stream
}

// NewStream makes a stream that waits for no other. The caller closes it.
func (c *Context) NewStream() (*Stream, error) {
	s := &Stream{c: c}
	err := c.call("cuStreamCreate", func() (err error) {
		s.s, err = cu.MakeStream(cu.NonBlocking)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.made("streams")
	return s, nil
}

// Close waits for the work in the stream, says what went wrong with it, and gives the stream back.
func (s *Stream) Close() error {
	err := s.Synchronize()
	if closing := s.c.call("cuStreamDestroy", s.s.Destroy); err == nil {
		err = closing
	}
	s.c.gone("streams")
	return err
}

// Synchronize waits for the work in the stream and says what went wrong with it, or with any work of the GPU before.
func (s *Stream) Synchronize() error { return s.c.call("cuStreamSynchronize", s.s.Synchronize) }

// Copy queues a copy of src to dst, which are of one length, between memory of this GPU and pinned memory, or within the GPU.
// Ordinary host memory is refused: a copy of it would wait, and what Go's heap has must not be used after a call.
func (s *Stream) Copy(dst, src *mem.Buffer) error {
	n := src.Len()
	if dst.Len() != n {
		return fmt.Errorf("cuda: a copy of %d bytes to a buffer of %d", n, dst.Len())
	}
	if n == 0 {
		return nil
	}
	switch {
	case src.Tier() == mem.TierPinned && dst.Tier() == mem.TierDevice:
		return s.c.call("cuMemcpyHtoDAsync", func() error { return upload(dst.DeviceAddr(), address(src), n, s.s) })
	case src.Tier() == mem.TierDevice && dst.Tier() == mem.TierPinned:
		return s.c.call("cuMemcpyDtoHAsync", func() error { return download(address(dst), src.DeviceAddr(), n, s.s) })
	case src.Tier() == mem.TierDevice && dst.Tier() == mem.TierDevice:
		return s.c.call("cuMemcpyDtoDAsync", func() error {
			return cu.MemcpyDtoDAsync(cu.DevicePtr(dst.DeviceAddr()), cu.DevicePtr(src.DeviceAddr()), int64(n), s.s)
		})
	}
	return fmt.Errorf("cuda: no copy from tier %s to tier %s", src.Tier(), dst.Tier())
}

// CopyPeer queues a copy from memory of the GPU of from to memory of this one.
func (s *Stream) CopyPeer(dst, src *mem.Buffer, from *Context) error {
	n := src.Len()
	if dst.Len() != n || dst.Tier() != mem.TierDevice || src.Tier() != mem.TierDevice {
		return fmt.Errorf("cuda: a copy between GPUs of %d bytes in tier %s to %d in tier %s", n, src.Tier(), dst.Len(), dst.Tier())
	}
	return s.c.call("cuMemcpyPeerAsync", func() error {
		return cu.MemcpyPeerAsync(cu.DevicePtr(dst.DeviceAddr()), s.c.ctx, cu.DevicePtr(src.DeviceAddr()), from.ctx, int64(n), s.s)
	})
}

// Fill queues setting every byte of a buffer of this GPU.
func (s *Stream) Fill(dst *mem.Buffer, value byte) error {
	if dst.Tier() != mem.TierDevice {
		return fmt.Errorf("cuda: a fill of a buffer in tier %s", dst.Tier())
	}
	if dst.Len() == 0 {
		return nil
	}
	return s.c.call("cuMemsetD8Async", func() error {
		return cu.MemsetD8Async(cu.DevicePtr(dst.DeviceAddr()), value, int64(dst.Len()), s.s)
	})
}

// Alloc allocates device memory in the order of the stream, from the driver's own pool. [Stream.Free] gives it back.
func (s *Stream) Alloc(n int) (address uintptr, err error) {
	err = s.c.call("cuMemAllocAsync", func() (err error) {
		address, err = allocAsync(max(n, 1), s.s)
		return err
	})
	if err == nil {
		s.c.made("allocations of streams")
	}
	return address, err
}

// Free gives back what [Stream.Alloc] allocated, once the work is done that is in the stream now.
func (s *Stream) Free(address uintptr) error {
	err := s.c.call("cuMemFreeAsync", func() error { return freeAsync(address, s.s) })
	if err == nil {
		s.c.gone("allocations of streams")
	}
	return err
}

// Event is a point in a stream that others can wait for. It may be recorded again and again.
type Event struct {
	c *Context
	e cu.Event
}

// NewEvent makes an event that counts as reached until it is recorded. The caller closes it.
func (c *Context) NewEvent() (*Event, error) {
	e := &Event{c: c}
	err := c.call("cuEventCreate", func() (err error) {
		e.e, err = cu.MakeEvent(cu.DisableTiming | cu.BlockingSyncEvent)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.made("events")
	return e, nil
}

// Close gives the event back.
func (e *Event) Close() error {
	err := e.c.call("cuEventDestroy", func() error { return cu.DestroyEvent(&e.e) })
	e.c.gone("events")
	return err
}

// Record puts the event behind what is in the stream.
func (s *Stream) Record(e *Event) error {
	return s.c.call("cuEventRecord", func() error { return e.e.Record(s.s) })
}

// Wait has what is queued from now on wait for an event, which may be another GPU's. The caller does not wait.
func (s *Stream) Wait(e *Event) error {
	return s.c.call("cuStreamWaitEvent", func() error { return s.s.Wait(e.e, 0) })
}

// Synchronize waits until the event is reached.
func (e *Event) Synchronize() error { return e.c.call("cuEventSynchronize", e.e.Synchronize) }

// Reached reports whether it is. An error is one of the GPU.
func (e *Event) Reached() (bool, error) {
	err := e.c.call("cuEventQuery", e.e.Query)
	if hasCode(err, codeNotReady) {
		return false, nil
	}
	return err == nil, err
}

// fence is an event with the means to wait for it and for a context at once.
type fence struct {
	e       *Event
	settled bool // the work is done and the event closed
	err     error
}

// Fence returns the fence of what is in the stream now. It has an event of its own, which is closed when the fence is found to be
// done; so every fence must be waited for, or asked, until it is. It belongs to one goroutine at a time.
func (s *Stream) Fence() (mem.Fence, error) {
	e, err := s.c.NewEvent()
	if err != nil {
		return nil, err
	}
	if err := s.Record(e); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &fence{e: e}, nil
}

// Pauses between looks at an event, which double.
const (
	firstLook = 10 * time.Microsecond
	longLook  = 500 * time.Microsecond
)

// Wait implements [mem.Fence]. When ctx ends before the work is done the fence is not: the buffers are still in use.
func (f *fence) Wait(ctx context.Context) error {
	if f.settled {
		return f.err
	}
	if ctx.Done() == nil {
		return f.settle(f.e.Synchronize())
	}
	t := time.NewTimer(firstLook)
	defer t.Stop()
	for pause := firstLook; ; pause = min(2*pause, longLook) {
		if f.Done() {
			return f.err
		}
		t.Reset(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Done implements [mem.Fence].
func (f *fence) Done() bool {
	if f.settled {
		return true
	}
	reached, err := f.e.Reached()
	if reached || err != nil {
		_ = f.settle(err)
	}
	return f.settled
}

func (f *fence) settle(err error) error {
	f.settled = true
	f.err = err
	if closing := f.e.Close(); f.err == nil {
		f.err = closing
	}
	return f.err
}

//go:build ucx && cgo

package ucx

/*
#include <stdlib.h>
#include "engine.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The names of engine.h.
const (
	opMessage  = C.DVT_OP_MESSAGE
	opSend     = C.DVT_OP_SEND
	opReceive  = C.DVT_OP_RECEIVE
	opRelease  = C.DVT_OP_RELEASE
	opCancel   = C.DVT_OP_CANCEL
	opClose    = C.DVT_OP_CLOSE
	evMessage  = C.DVT_EV_MESSAGE
	evDone     = C.DVT_EV_DONE
	evFailed   = C.DVT_EV_FAILED
	evClosed   = C.DVT_EV_CLOSED
	memoryCUDA = C.DVT_CUDA
)

// op is a dvt_op: one without pointers, or cgo would look at every one of them in each call.
type op struct {
	kind, link, addr, len, tag, slot, owner, memory uint64
	result                                          int64
}

// event is a dvt_event.
type event struct {
	kind, link, addr, len, slot, owner uint64
	status                             int64
	_                                  uint64
}

var (
	_ [unsafe.Sizeof(op{})]byte    = [unsafe.Sizeof(C.dvt_op{})]byte{}
	_ [unsafe.Sizeof(event{})]byte = [unsafe.Sizeof(C.dvt_event{})]byte{}
)

// worker is what messages come to and go from. One goroutine at a time uses it, but for wake.
type worker struct {
	c       *C.dvt_worker
	kick    *uint32 // ends rounds
	parked  atomic.Bool
	file    *os.File
	raw     syscall.RawConn
	limited time.Time          // when sleep ends at the latest
	waited  bool               // in this sleep
	step    func(uintptr) bool // what raw.Read calls; kept, for to make it takes memory
}

func (c *Context) newWorker() (*worker, error) {
	w := new(worker)
	var fd C.int
	if err := check("opening a worker", C.dvt_open(c.c, &w.c, &fd)); err != nil {
		return nil, err
	}
	w.kick = (*uint32)(unsafe.Pointer(C.dvt_kick(w.c)))
	w.step = func(uintptr) bool {
		if w.waited {
			return true
		}
		w.waited = true
		return C.dvt_arm(w.c) != 0
	}
	// A descriptor of our own, for Go closes it.
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(own, true)
	}
	if err == nil {
		w.file = os.NewFile(uintptr(own), "ucx")
		w.raw, err = w.file.SyscallConn()
	}
	if err != nil {
		C.dvt_close(w.c)
		return nil, fmt.Errorf("ucx: the worker's descriptor: %w", err)
	}
	return w, nil
}

// address returns UCX's address of the worker.
func (w *worker) address() ([]byte, error) {
	var p unsafe.Pointer
	var n C.size_t
	if err := check("asking for the worker's address", C.dvt_address(w.c, &p, &n)); err != nil {
		return nil, err
	}
	defer C.free(p)
	return C.GoBytes(p, C.int(n)), nil
}

func (w *worker) links(n int) error {
	return check("making room for links", C.dvt_links(w.c, C.int(n)))
}

func (w *worker) connect(link int, address []byte) error {
	// UCX looks at it during the call only.
	p := C.CBytes(address)
	defer C.free(p)
	if s := C.dvt_connect(w.c, C.int(link), p); s != 0 {
		return statusError(s)
	}
	return nil
}

// errUnknown is what UCX says of an option that it does not know.
const errUnknown = statusError(-12) // UCS_ERR_NO_ELEM

// errEngine says that memory is so short that nothing can be relied upon.
var errEngine = errors.New("ucx: there is no memory for what has arrived")

// round starts operations, whose results it fills in, makes progress, and returns how many events it has stored.
func (w *worker) round(ops []op, events []event, spin time.Duration) (int, error) {
	n := C.dvt_round(w.c, (*C.dvt_op)(unsafe.Pointer(unsafe.SliceData(ops))), C.int(len(ops)),
		(*C.dvt_event)(unsafe.Pointer(unsafe.SliceData(events))), C.int(len(events)), C.uint64_t(max(spin, 0)))
	if n < 0 {
		return 0, errEngine
	}
	return int(n), nil
}

// sleep waits until there may be something to do, wake is called, or for about as long as it is told.
//
// Go's poller is told of edges, and RawConn.Read forgets those before it calls its function: so there UCX is asked for everything
// that it has, and armed, in that order; what comes later is an edge. Arming first loses wake-ups.
func (w *worker) sleep(limit time.Duration) {
	now := time.Now()
	if left := w.limited.Sub(now); left < limit/2 || left > limit {
		w.limited = now.Add(limit)
		_ = w.file.SetReadDeadline(w.limited)
	}
	w.parked.Store(true)
	w.waited = false
	_ = w.raw.Read(w.step) // it fails when the deadline comes
	w.parked.Store(false)
}

// wake ends the round or the sleep that is under way, or the next. Any goroutine may call it, but not after close.
func (w *worker) wake() {
	if atomic.SwapUint32(w.kick, 1) == 0 && w.parked.Load() {
		C.dvt_signal(w.c)
	}
}

// awake forgets calls of wake.
func (w *worker) awake() { atomic.StoreUint32(w.kick, 0) }

// reset makes a worker whose links are all closed as good as new, and reports whether it is.
func (w *worker) reset() bool { return C.dvt_reset(w.c) == 0 }

// close ends everything. UCX uses no memory of the caller's any more.
func (w *worker) close() {
	_ = w.file.Close()
	C.dvt_close(w.c)
}

// bytesAt returns the bytes at an address of C's.
func bytesAt(addr, n uint64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
}

// block is memory of C's for a frame, until it is sent.
type block struct {
	bytes []byte
	class int
}

const (
	blockSmallest = 256
	blockClasses  = 11      // to 256 KiB, above the longest frame
	blocksKept    = 1 << 20 // bytes
)

// blocks is a stock of them.
type blocks struct {
	free [blockClasses][][]byte
	kept int
}

func (s *blocks) take(n int) block {
	class := 0
	for blockSmallest<<class < n {
		class++
	}
	if f := s.free[class]; len(f) > 0 {
		b := f[len(f)-1]
		s.free[class] = f[:len(f)-1]
		s.kept -= len(b)
		return block{b, class}
	}
	size := blockSmallest << class
	return block{unsafe.Slice((*byte)(C.malloc(C.size_t(size))), size), class}
}

func (s *blocks) give(b block) {
	if s.kept+len(b.bytes) > blocksKept {
		C.free(unsafe.Pointer(unsafe.SliceData(b.bytes)))
		return
	}
	s.kept += len(b.bytes)
	s.free[b.class] = append(s.free[b.class], b.bytes)
}

func (s *blocks) close() {
	for _, f := range s.free {
		for _, b := range f {
			C.free(unsafe.Pointer(unsafe.SliceData(b)))
		}
	}
	*s = blocks{}
}

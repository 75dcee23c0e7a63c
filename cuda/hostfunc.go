//go:build cuda

package cuda

/*
#include <stdint.h>
#include <cuda.h>

extern void dovetailHostFunction(void *handle);

static inline CUresult dovetail_host_function(CUstream s, uintptr_t handle) {
	return cuLaunchHostFunc(s, dovetailHostFunction, (void *)handle);
}
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

//export dovetailHostFunction
func dovetailHostFunction(handle unsafe.Pointer) {
	h := cgo.Handle(uintptr(handle))
	f := h.Value().(func())
	h.Delete()
	f()
}

// Call queues a call of f, which runs on a thread of the driver and must not call it. If the GPU fails before, f is never called.
func (s *Stream) Call(f func()) error {
	h := cgo.NewHandle(f)
	err := s.c.call("cuLaunchHostFunc", func() error {
		return hostFunction(s, uintptr(h))
	})
	if err != nil {
		h.Delete()
	}
	return err
}

func hostFunction(s *Stream, h uintptr) error {
	if r := C.dovetail_host_function(*(*C.CUstream)(unsafe.Pointer(&s.s)), C.uintptr_t(h)); r != C.CUDA_SUCCESS {
		return resultCode(r)
	}
	return nil
}

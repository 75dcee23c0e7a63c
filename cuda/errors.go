//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Errors to compare with errors.Is.
var (
	// ErrNoCUDA is what [OpenDriver] wraps where NVIDIA's driver is not installed.
	ErrNoCUDA = errors.New("no NVIDIA driver is installed (libcuda.so.1 was not found)")
	// ErrBroken is wrapped by errors after which nothing can be done with the GPU in this process: a kernel that failed, memory
	// that cannot be corrected, a GPU that fell off the bus.
	ErrBroken = errors.New("nothing can run on the GPU any more")
	// ErrTransient is wrapped by errors that may not happen again.
	ErrTransient = errors.New("it may work when tried again")
	// ErrClosed is wrapped by calls on a context that was closed.
	ErrClosed = errors.New("the context is closed")
)

// Error is what a function of the driver returned.
type Error struct {
	Call string // the function
	Code int    // its CUresult
	Name string // of the code, such as CUDA_ERROR_OUT_OF_MEMORY; empty if the driver does not know it
	Text string // what the driver says about it
}

// Error is one line.
func (e *Error) Error() string {
	s := fmt.Sprintf("cuda: %s: ", e.Call)
	if e.Name == "" {
		return s + fmt.Sprintf("error %d", e.Code)
	}
	return s + fmt.Sprintf("%s (%d), %s", e.Name, e.Code, e.Text)
}

// Codes of cuda.h.
const (
	codeOutOfMemory        = 2
	codeDeinitialized      = 4
	codeDeviceUnavailable  = 46
	codeNoDevice           = 100
	codeECC                = 214
	codeNVLink             = 220
	codeNotReady           = 600
	codeIllegalAddress     = 700
	codeOutOfResources     = 701
	codeTimeout            = 702
	codePeerAlreadyEnabled = 704
	codeContextDestroyed   = 709
	codeHardwareStack      = 714
	codeLaunchFailed       = 719
	codeExternalDevice     = 911
	codeSystemNotReady     = 802
	codeUnknown            = 999
)

// Is makes out of memory a [mem.ErrNoMemory], and tells apart what may be tried again and what is the end.
func (e *Error) Is(target error) bool {
	switch target {
	case mem.ErrNoMemory:
		return e.Code == codeOutOfMemory
	case ErrTransient:
		return e.Code == codeOutOfResources || e.Code == codeSystemNotReady
	case ErrBroken:
		switch e.Code {
		case codeDeviceUnavailable, codeNoDevice, codeECC, codeNVLink, codeTimeout, codeContextDestroyed, codeExternalDevice, codeUnknown:
			return true
		}
		// 710 an assertion of a kernel, 714 to 718 what a kernel does that it must not, 719 the rest of it
		return e.Code == codeIllegalAddress || e.Code == 710 || e.Code >= codeHardwareStack && e.Code <= codeLaunchFailed
	}
	return false
}

// wrap makes an Error of what cu, or a call of our own, returned. cu's type of errors is not exported; it is a CUresult.
func wrap(call string, err error) error {
	if err == nil {
		return nil
	}
	v := reflect.ValueOf(err)
	if !v.CanInt() {
		return fmt.Errorf("cuda: %s: %w", call, err)
	}
	e := &Error{Call: call, Code: int(v.Int())}
	e.Name, e.Text = errorName(e.Code)
	return e
}

// hasCode reports whether err is an Error with a code.
func hasCode(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

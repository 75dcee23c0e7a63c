//go:build ucx && cgo

package ucx

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "engine.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"
)

// libraryName is that of the version of UCX's ABI that is known here.
const libraryName = "libucp.so.0"

// library is UCX in this process: once it is loaded it stays.
var library struct {
	sync.Mutex
	path string
}

// places returns where the library is looked for, the best first.
func places(explicit string) []string {
	if explicit == "" {
		explicit = os.Getenv(LibraryVariable)
	}
	if explicit != "" {
		if s, err := os.Stat(explicit); err == nil && s.IsDir() {
			explicit = filepath.Join(explicit, libraryName)
		}
		return []string{explicit}
	}
	var list []string
	add := func(pattern ...string) {
		found, _ := filepath.Glob(filepath.Join(pattern...))
		list = append(list, found...)
	}
	// Where Python's package libucx-cu12 or -cu13 puts it.
	wheel := []string{"lib", "python3*", "site-packages", "libucx", "lib", libraryName}
	if env := os.Getenv("VIRTUAL_ENV"); env != "" {
		add(append([]string{env}, wheel...)...)
	}
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		add(dir, libraryName)
		add(append([]string{dir, ".."}, wheel...)...)
		// As a file of a package beside that one.
		add(dir, "..", "libucx", "lib", libraryName)
		add(dir, "..", "..", "libucx", "lib", libraryName)
	}
	list = append(list, libraryName) // wherever the system's loader finds it: LD_LIBRARY_PATH, ld.so.conf
	for _, dir := range []string{"/opt/ucx/lib", "/usr/local/lib", "/opt/mellanox/hpcx/ucx/lib"} {
		add(dir, libraryName)
	}
	return list
}

// load loads the library. The error wraps [ErrNoLibrary].
func load(explicit string) error {
	library.Lock()
	defer library.Unlock()
	if library.path != "" {
		return nil
	}
	C.dvt_quiet()
	var tried []string
	for _, path := range places(explicit) {
		err := loadFrom(path)
		if err == nil {
			library.path = path
			return nil
		}
		tried = append(tried, err.Error())
	}
	return fmt.Errorf("ucx: %w that can be used: %s; %s can name it", ErrNoLibrary, strings.Join(tried, "; "), LibraryVariable)
}

func loadFrom(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var message [1024]C.char
	if C.dvt_load(name, &message[0], C.size_t(len(message))) != 0 {
		return errors.New(C.GoString(&message[0]))
	}
	return nil
}

// check makes an error of a status of UCX.
func check(what string, status C.int64_t) error {
	if status == 0 {
		return nil
	}
	return fmt.Errorf("ucx: %s: %w", what, statusError(status))
}

// statusError is a status of UCX that is an error.
type statusError int64

func (s statusError) Error() string { return "UCX: " + C.GoString(C.dvt_error(C.int64_t(s))) }

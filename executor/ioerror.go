package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// ioError makes one line of a failed file operation: what was being done, the file and the fault from err, and
// what to do about it if that is known.
func ioError(doing string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = "make room on that file system, then run again: finished tasks are kept"
	case errors.Is(err, fs.ErrPermission):
		advice = "allow this user to write there, or choose another folder"
	case errors.Is(err, syscall.EROFS):
		advice = "the file system is read-only: choose another folder"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		advice = "raise the limit of open files (ulimit -n), then run again"
	case errors.Is(err, syscall.EFBIG):
		advice = "the file is too large for the file system or the limit of file sizes (ulimit -f)"
	case errors.Is(err, syscall.EIO):
		advice = "check the disk, then run again: finished tasks are kept"
	}
	// A path that doing names already need not be said twice.
	if p := (*fs.PathError)(nil); errors.As(err, &p) && strings.Contains(doing, p.Path) {
		err = p.Err
	}
	if advice == "" {
		return fmt.Errorf("executor: %s: %w", doing, err)
	}
	return fmt.Errorf("executor: %s: %w; %s", doing, err, advice)
}

package runfolder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/lockfile"
)

// LockOutput makes sure that no other run is on its way to the same output, whatever its work folder, until unlock is called.
// The folder in which the output lies must exist. A hidden file beside the output is locked by the operating system, so a
// run that was killed holds nothing; unlock removes it. Where files cannot be locked, nothing is: then the second run finds
// the result of the first when it puts its own in place.
func LockOutput(output string) (unlock func(), err error) {
	l, err := lockfile.AcquireTemporary(lockPath(output))
	if held := (*lockfile.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("%w: %s: %w by another run: %w; wait for it to end, stop it, or choose another output",
			ErrOutput, output, executor.ErrLocked, held)
	}
	if err != nil {
		return func() {}, nil
	}
	return func() { _ = l.Remove() }, nil // an empty file that is left does no harm
}

// ForgetLock removes what a run left that was killed when its output was in place already.
func ForgetLock(output string) {
	if _, err := os.Lstat(lockPath(output)); err != nil {
		return
	}
	if unlock, err := LockOutput(output); err == nil {
		unlock()
	}
}

func lockPath(output string) string {
	return filepath.Join(filepath.Dir(output), "."+filepath.Base(output)+".dovetail-lock")
}

// ErrSaved is wrapped by errors of a run of which something was saved: the same call goes on from there.
var ErrSaved = errors.New("the same call goes on from here")

// Saved makes err, if it is not nil, wrap [ErrSaved] without saying so.
func Saved(err error) error {
	if err == nil {
		return nil
	}
	return savedError{err}
}

type savedError struct{ error }

func (s savedError) Unwrap() error        { return s.error }
func (s savedError) Is(target error) bool { return target == ErrSaved }

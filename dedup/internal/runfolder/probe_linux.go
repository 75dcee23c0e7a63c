package runfolder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// probe makes a file without a name, so that nothing is left however this process ends.
func probe(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	for _, unknown := range []error{unix.EOPNOTSUPP, unix.EISDIR, unix.ENOENT, unix.EINVAL} { // to the file system, or to the kernel
		if errors.Is(err, unknown) {
			return errNameless
		}
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return unix.Close(fd)
}
